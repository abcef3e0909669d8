// Generates a client from the OpenAPI document of a fresh keep at VAULT_ADDR, and calls every operation with it; ends with an
// error at the first one that the keep does not have.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { generate } = require('openapi-typescript-codegen');
const ts = require('typescript');

const base = `${process.env.VAULT_ADDR}/v1`;
let token = '';

async function ask(method, where, body) {
  const answer = await fetch(`${base}/${where}`, { method, headers: { 'X-Vault-Token': token }, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

// client generates the client, has the compiler check it, and loads it.
async function client(document, dir) {
  await generate({ input: document, output: dir, httpClient: 'fetch', useOptions: true, useUnionTypes: true });
  const program = ts.createProgram([path.join(dir, 'index.ts')], {
    module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, lib: ['lib.es2022.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'], strict: true, types: [],
  });
  const errors = [...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics];
  if (errors.length > 0) {
    throw new Error(`DIFFERENT: the client does not compile: ${ts.formatDiagnostics(errors, { getCanonicalFileName: (name) => name, getCurrentDirectory: () => dir, getNewLine: () => '\n' })}`);
  }
  return require(path.join(dir, 'index.js'));
}

// follow opens a stream that goes on as long as somebody listens, and leaves it.
async function follow(where) {
  const leave = new AbortController();
  const answer = await fetch(`${base}${where}`, { headers: { 'X-Vault-Token': token }, signal: leave.signal });
  leave.abort();
  if (answer.status !== 200) throw new Error(`DIFFERENT: ${where}: ${answer.status}`);
}

// This ends what the others need: it comes last.
const last = 'sys-write-seal';

async function main() {
  const root = (await ask('PUT', 'sys/init', {})).root_token;
  token = root;
  for (const method of ['approle', 'cert', 'jwt', 'peer', 'userpass']) await ask('PUT', `sys/auth/${method}`, { type: method });
  await ask('PUT', 'sys/mounts/plain', { type: 'kv-v1' });
  const document = await ask('GET', 'sys/internal/specs/openapi');
  const operations = [];
  for (const [where, item] of Object.entries(document.paths)) {
    for (const method of ['get', 'head', 'post', 'patch', 'delete']) {
      if (item[method]) operations.push({ where, method, ...item[method], parameters: [...(item.parameters ?? []), ...(item[method].parameters ?? [])] });
    }
  }
  operations.sort((a, b) => (a.operationId === last) - (b.operationId === last));

  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sealkeep-openapi-'));
  try {
    const { OpenAPI, ...services } = await client(document, dir);
    const methods = {};
    for (const service of Object.values(services)) {
      for (const name of Object.getOwnPropertyNames(service)) methods[name] = service[name];
    }
    OpenAPI.BASE = base;
    OpenAPI.HEADERS = async () => ({ 'X-Vault-Token': token });
    for (const op of operations) {
      const name = op.operationId.replace(/-(.)/g, (_, c) => c.toUpperCase());
      if (!methods[name]) throw new Error(`DIFFERENT: the client has no ${name}`);
      const given = { requestBody: {} };
      for (const p of op.parameters) {
        if (p.in === 'path') given[p.name] = 'x';
      }
      if (op.method === 'get' && !op.operationId.includes('-read-')) given.list = 'true';
      if (op.operationId === 'auth-token-write-revoke-self') token = (await ask('PUT', 'auth/token/create', {})).auth.client_token;
      if (op.parameters.some((p) => p.name === 'seconds')) given.seconds = '1';
      let told;
      try {
        await (op.operationId === 'sys-read-monitor' ? follow(op.where) : methods[name](given));
        told = 'answered';
      } catch (err) {
        const text = JSON.stringify(err.body);
        if (!err.status || err.status === 405 || err.status >= 500 || /no handler for route/.test(text)) {
          throw new Error(`DIFFERENT: ${op.method} ${op.where}: ${err.status} ${text} ${err}`);
        }
        told = `refused with ${err.status}`;
      }
      token = root;
      console.log(`ok: ${op.operationId} is ${told}`);
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

main().catch((err) => {
  console.error(err);
  process.exit(1);
});
