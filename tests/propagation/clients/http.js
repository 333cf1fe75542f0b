const http = require('http');
const { createHash } = require('crypto');

const [base, count] = [process.argv[2], Number(process.argv[3])];
const agent = new http.Agent({ keepAlive: true });
const sum = (data) => createHash('sha256').update(data).digest('hex');

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(base + path, { method, agent }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ headers: answer.headers, data: Buffer.concat(parts) }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

function must(holds, what) {
  if (!holds) throw new Error(what);
}

(async () => {
  for (let number = 0; number < count; number++) {
    must((await call('GET', `/get/${number}`)).data.toString() === 'ok', 'get');
    const body = Buffer.alloc(300000, number % 256);
    must((await call('POST', `/upload/${number}`, body)).data.toString() === sum(body), 'upload');
    const { headers, data } = await call('GET', `/download/${number}`);
    must(headers['x-sum'] === sum(data), 'download');
  }
  agent.destroy();
})().catch((error) => { console.error(error); process.exit(1); });
