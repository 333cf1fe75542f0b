// HTTP/2 requests by Node's own client; every tenth has trailers. See ../README.md: http2.js BASE COUNT LEVEL [BYTES]
// With BYTES, every request has a field of so many, which takes CONTINUATION.
const http2 = require("node:http2");
const crypto = require("node:crypto");

const [base, count, level, bytes] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const body = (number) => Buffer.alloc(number % 50 === 7 ? 70000 : (number * 7) % 600, number % 256);
const session = http2.connect(base, { maxSendHeaderBlockLength: 1 << 20 });
const errors = [];
session.on("error", (error) => errors.push(String(error)));
session.on("goaway", (code) => code && errors.push(`GOAWAY ${code}`));

const one = (number) => new Promise((resolve, reject) => {
  const sent = body(number);
  const trailers = number % 10 === 9;
  const fields = { ":method": "POST", ":path": `/echo?id=${number}`, "x-id": String(number) };
  if (bytes) fields["x-large"] = String(number % 10).repeat(bytes);
  const stream = session.request(fields, { waitForTrailers: trailers });
  if (trailers) stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": crypto.createHash("sha256").update(sent).digest("hex") }));
  let status;
  const parts = [];
  stream.on("response", (answer) => (status = answer[":status"]));
  stream.on("data", (part) => parts.push(part));
  stream.on("error", reject);
  stream.on("close", () => {
    const got = Buffer.concat(parts);
    status === 200 && stream.rstCode === 0 && got.equals(sent) ? resolve()
      : reject(new Error(`status ${status}, code ${stream.rstCode}, ${got.length} bytes came back for ${sent.length}, or others`));
  });
  stream.end(sent);
});

async function main() {
  await Promise.all(Array.from({ length: level }, async (_, worker) => {
    for (let number = worker; number < count; number += level) await one(number).catch((error) => errors.push(`${number}: ${error}`));
  }));
  session.close();
  if (errors.length) {
    console.log(`${errors.length} errors: ${errors.slice(0, 3)}`);
    process.exitCode = 1;
  }
}
main();
