// The last service of the demo.
import http from "node:http";

http
  .createServer((request, response) => {
    const known = request.url.startsWith("/cart/");
    response.writeHead(known ? 200 : 404, { "Content-Type": "text/plain" });
    response.end(known ? "3 left\n" : "no such thing\n");
  })
  .listen(Number(process.env.PORT), "127.0.0.1");
