// Third service of the demo: /stock/<n>, a little slow; item 4 is unknown. usage: node stock.js PORT
const http = require('http');

http
  .createServer((request, response) => {
    const number = Number(request.url.split('/').pop());
    setTimeout(() => {
      response.writeHead(number === 4 ? 404 : 200, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ item: number, left: number === 4 ? null : number * 3 }));
    }, 5);
  })
  .listen(Number(process.argv[2]), '127.0.0.1');
