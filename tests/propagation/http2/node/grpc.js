// Calls rig.Echo with @grpc/grpc-js; see ../README.md: grpc.js HOST:PORT COUNT LEVEL
const grpc = require("@grpc/grpc-js");

const [target, count, level] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const body = (number) => Buffer.alloc(number % 50 === 7 ? 70000 : (number * 7) % 600, number % 256);
const same = (bytes) => bytes;
const client = new grpc.Client(target, grpc.credentials.createInsecure());

function fields(number) {
  const metadata = new grpc.Metadata();
  metadata.set("x-id", String(number));
  return metadata;
}

const unary = (number) => new Promise((resolve, reject) => {
  client.makeUnaryRequest("/rig.Echo/Call", same, same, body(number), fields(number), (error, got) => {
    error ? reject(error) : body(number).equals(got) ? resolve() : reject(new Error("other bytes came back"));
  });
});

const stream = (number) => new Promise((resolve, reject) => {
  const call = client.makeBidiStreamRequest("/rig.Echo/Stream", same, same, fields(number));
  const sent = [number, number + 1, number + 2].map(body);
  const got = [];
  call.on("data", (message) => got.push(message));
  call.on("error", reject);
  call.on("end", () => (sent.length === got.length && sent.every((one, at) => one.equals(got[at])) ? resolve() : reject(new Error("messages differ"))));
  for (const message of sent) call.write(message);
  call.end();
});

async function main() {
  const errors = [];
  await Promise.all(Array.from({ length: level }, async (_, worker) => {
    for (let number = worker; number < count; number += level) {
      try {
        await (number % 10 === 9 ? stream(number) : unary(number));
      } catch (error) {
        errors.push(`${number}: ${error}`);
      }
    }
  }));
  client.close();
  if (errors.length) {
    console.log(`${errors.length} errors: ${errors.slice(0, 3)}`);
    process.exitCode = 1;
  }
}
main();
