const { createHash } = require('crypto');

const [base, count] = [process.argv[2], Number(process.argv[3])];
const sum = (data) => createHash('sha256').update(data).digest('hex');

function must(holds, what) {
  if (!holds) throw new Error(what);
}

(async () => {
  for (let number = 0; number < count; number++) {
    must((await (await fetch(`${base}/get/${number}`)).text()) === 'ok', 'get');
    const body = Buffer.alloc(300000, number % 256);
    const upload = await fetch(`${base}/upload/${number}`, { method: 'POST', body });
    must((await upload.text()) === sum(body), 'upload');
    const download = await fetch(`${base}/download/${number}`);
    must(download.headers.get('x-sum') === sum(Buffer.from(await download.arrayBuffer())), 'download');
  }
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
