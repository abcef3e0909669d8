// Drives a fresh keep at VAULT_ADDR with node-vault; ends with an error at the first difference.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const connect = require('node-vault');

function check(what, got, want) {
  if (!isDeepStrictEqual(got, want)) {
    throw new Error(`DIFFERENT: ${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
  console.log(`ok: ${what}`);
}

// call must be refused with this status, and with an error that begins like this.
async function refused(what, status, words, call) {
  let got;
  try {
    got = await call();
  } catch (err) {
    if (!err.response || !err.message.includes(words)) throw err;
    check(what, err.response.statusCode, status);
    return err.response.body;
  }
  throw new Error(`DIFFERENT: ${what}: no error but ${JSON.stringify(got)}`);
}

const pick = (object, ...names) => names.map((name) => object[name]);

async function main() {
  console.log(`node-vault ${require('node-vault/package.json').version}, node ${process.version}`);
  const vault = connect();

  // Before init.
  check('not initialized', await vault.initialized(), { initialized: false });
  check('sealed before init', (await vault.status()).sealed, true);
  check('health before init', pick(await vault.health(), 'initialized', 'sealed'), [false, true]);
  await refused('a sealed keep gives nothing', 503, 'Vault is sealed', () => vault.read('secret/data/a'));

  // Init, and what it tells.
  const first = await vault.init({ secret_shares: 1, secret_threshold: 1 });
  check('no unseal keys', first.keys, []);
  check('a root token', first.root_token.startsWith('hvs.'), true);
  vault.token = first.root_token;
  check('initialized', await vault.initialized(), { initialized: true });
  await refused('init twice', 400, 'already initialized', () => vault.init({ secret_shares: 1, secret_threshold: 1 }));
  check('the token is root', (await vault.tokenLookupSelf()).data.policies, ['root']);
  await refused('a wrong token', 403, 'permission denied', () => connect({ token: 'hvs.no' }).mounts());

  // Status, health and leader.
  check('seal status', pick(await vault.status(), 'type', 'initialized', 'sealed', 't', 'n', 'progress'), ['static', true, false, 3, 5, 0]);
  check('health', pick(await vault.health(), 'initialized', 'sealed', 'standby'), [true, false, false]);
  check('health with a code', (await vault.health({ activecode: 299 })).sealed, false);
  check('leader', (await vault.leader()).ha_enabled, false);

  // Mounts and the barrier's key.
  check('mounts at first', Object.keys((await vault.mounts()).data).sort(), ['cubbyhole/', 'secret/', 'state/', 'sys/']);
  await vault.mount({ mount_point: 'team', type: 'kv', description: 'of the team', options: { version: '2' }, config: { max_lease_ttl: '48h' } });
  check('a mount', pick((await vault.mounts()).data['team/'], 'type', 'description', 'options'), ['kv', 'of the team', { version: '2' }]);
  await refused('the path is taken', 400, 'path is already in use at team/', () => vault.mount({ mount_point: 'team', type: 'kv' }));
  await vault.write('sys/mounts/team/tune', { default_lease_ttl: '1h', description: 'tuned' });
  check('tuned', pick((await vault.read('sys/mounts/team/tune')).data, 'default_lease_ttl', 'max_lease_ttl', 'description'), [3600, 172800, 'tuned']);
  check('term', (await vault.read('sys/key-status')).data.term, 1);
  await vault.rotate();
  check('the next term', (await vault.read('sys/key-status')).data.term, 2);

  // KV: create, read, check-and-set. In both mounts, one after the other.
  for (const at of ['secret', 'team']) {
    const is = (what, got, want) => check(`${at}: ${what}`, got, want);
    const refuses = (what, status, words, call) => refused(`${at}: ${what}`, status, words, call);
    const read = async (path) => (await vault.read(`${at}/${path}`)).data;
    const write = async (path, body) => (await vault.write(`${at}/${path}`, body)).data;
    const gone = (path) => refuses(`${path} is not there`, 404, 'Status 404', () => read(path));

    const one = { user: 'u', password: 's3cret one', deep: { x: [1, null, 'ü'], y: {} } };
    check(`${at}: an absent secret`, await gone('data/app/db'), { errors: [] });
    const meta = await write('data/app/db', { data: one });
    is('created', pick(meta, 'version', 'deletion_time', 'destroyed', 'custom_metadata'), [1, '', false, null]);
    is('created now', Math.abs(Date.parse(meta.created_time) - Date.now()) < 300000, true);
    is('read', await read('data/app/db'), { data: one, metadata: meta });
    await refuses('cas 0 on a secret that is there', 400, 'check-and-set parameter did not match the current version',
      () => write('data/app/db', { data: {}, options: { cas: 0 } }));
    is('cas 1', (await write('data/app/db', { data: { user: 'v', password: 's3cret two' }, options: { cas: 1 } })).version, 2);
    is('version 1', (await read('data/app/db?version=1')).data, one);
    await gone('data/app/db?version=9');
    await refuses('no data', 400, 'no data provided', () => write('data/app/db', {}));
    is('a parameter that is none', (await vault.write(`${at}/data/app/other`, { data: {}, ttl: '1h' })).warnings,
      ['Endpoint ignored these unrecognized parameters: [ttl]']);

    // Patch.
    const patched = await vault.update(`${at}/data/app/db`, { data: { user: null, host: 'h', deep: { z: 1 } }, options: { cas: 2 } });
    is('patch', patched.data.version, 3);
    is('patched', (await read('data/app/db')).data, { password: 's3cret two', host: 'h', deep: { z: 1 } });
    await refuses('patch with a wrong cas', 400, 'did not match', () => vault.update(`${at}/data/app/db`, { data: {}, options: { cas: 1 } }));
    await refuses('patch of nothing', 404, 'Status 404', () => vault.update(`${at}/data/none`, { data: { a: 1 } }));

    // Subkeys and lists.
    is('subkeys', (await read('subkeys/app/db?version=1')).subkeys, { user: null, password: null, deep: { x: null, y: null } });
    is('subkeys to depth 1', (await read('subkeys/app/db?depth=1')).subkeys, { password: null, host: null, deep: null });
    is('list of the mount', (await vault.list(`${at}/metadata`)).data.keys, ['app/']);
    is('list of a folder', (await vault.list(`${at}/metadata/app/`)).data.keys, ['db', 'other']);
    const plain = connect({ token: vault.token, noCustomHTTPVerbs: true });
    is('list by GET', (await plain.list(`${at}/metadata/app`)).data.keys, ['db', 'other']);
    await refuses('list of nothing', 404, 'Status 404', () => vault.list(`${at}/metadata/none`));

    // Delete, undelete, destroy.
    await vault.delete(`${at}/data/app/db`);
    const deleted = await gone('data/app/db');
    is('what is told of it', [deleted.data.data, deleted.data.metadata.version, deleted.data.metadata.deletion_time !== ''], [null, 3, true]);
    await vault.write(`${at}/delete/app/db`, { versions: [1, 2] });
    await gone('data/app/db?version=2');
    await vault.write(`${at}/undelete/app/db`, { versions: [1, 3] });
    is('undeleted', [(await read('data/app/db')).data.host, (await read('data/app/db?version=1')).data.user], ['h', 'u']);
    await vault.write(`${at}/destroy/app/db`, { versions: [1] });
    await vault.write(`${at}/undelete/app/db`, { versions: [1, 2] });
    is('destroyed', (await gone('data/app/db?version=1')).data.metadata.destroyed, true);
    is('version 2 is back', (await read('data/app/db?version=2')).data.user, 'v');
    await refuses('no versions to delete', 400, 'No version number provided', () => vault.write(`${at}/delete/app/db`, {}));
    await refuses('no versions to destroy', 400, 'no version number provided', () => vault.write(`${at}/destroy/app/db`, {}));

    // Metadata.
    await vault.write(`${at}/metadata/app/db`, { max_versions: 2, cas_required: true, delete_version_after: '3h25m19s', custom_metadata: { owner: 'me', tier: '1' } });
    await vault.update(`${at}/metadata/app/db`, { custom_metadata: { tier: null, team: 'blue' } });
    const all = await read('metadata/app/db');
    is('metadata', pick(all, 'max_versions', 'cas_required', 'delete_version_after', 'current_version', 'oldest_version', 'custom_metadata'),
      [2, true, '3h25m19s', 3, 0, { owner: 'me', team: 'blue' }]);
    is('versions', Object.keys(all.versions), ['1', '2', '3']);
    await refuses('cas is required', 400, 'check-and-set parameter required for this call', () => write('data/app/db', { data: {} }));
    const four = await write('data/app/db', { data: { password: 's3cret four' }, options: { cas: 3 } });
    is('it will expire', Math.round((Date.parse(four.deletion_time) - Date.parse(four.created_time)) / 1000), 3 * 3600 + 25 * 60 + 19);
    is('older versions are gone', Object.keys((await read('metadata/app/db')).versions), ['3', '4']);
    await refuses('metadata that is no text', 400, 'custom_metadata validation failed', () => vault.write(`${at}/metadata/app/db`, { custom_metadata: { a: [] } }));

    // The mount's settings.
    is('configuration', await read('config'), { cas_required: false, delete_version_after: '0s', max_versions: 0, metadata_cas_required: false });
    await vault.write(`${at}/config`, { max_versions: 7, cas_required: true, delete_version_after: '90m' });
    is('configured', await read('config'), { cas_required: true, delete_version_after: '1h30m0s', max_versions: 7, metadata_cas_required: false });
    is('the mount counts more', (await vault.write(`${at}/metadata/app/other`, { cas_required: false })).warnings,
      ['"cas_required" set to false, but is mandated by backend config. This value will be ignored.']);

    await vault.delete(`${at}/metadata/app/db`);
    await gone('metadata/app/db');
    is('its neighbour is there', (await vault.list(`${at}/metadata/app`)).data.keys, ['other']);
    const lost = await refuses('a path of version 1', 404, 'Status 404', () => vault.read(`${at}/app/other`));
    is('and why', lost.warnings[0].startsWith('Invalid path for a versioned K/V secrets engine.'), true);
  }

  // Wrapping and the cubbyhole.
  const bearer = (token) => connect({ endpoint: process.env.VAULT_ADDR, token });
  const wrapped = await vault.write('sys/wrapping/wrap', { k: 'v' }, { headers: { 'X-Vault-Wrap-TTL': '60' } });
  check('wrapped data', pick(wrapped.wrap_info, 'ttl', 'creation_path'), [60, 'sys/wrapping/wrap']);
  check('unwrapped', (await bearer(wrapped.wrap_info.token).unwrap()).data, { k: 'v' });
  await refused('unwrapped again', 400, 'wrapping token is not valid', () => bearer(wrapped.wrap_info.token).unwrap());
  await vault.write('cubbyhole/a', { k: 'v' });
  check('the cubbyhole', (await vault.read('cubbyhole/a')).data, { k: 'v' });

  // Login methods.
  await vault.addPolicy({ name: 'app', rules: 'path "secret/data/app" { capabilities = ["read"] }' });
  await vault.enableAuth({ mount_point: 'approle', type: 'approle', description: 'machines' });
  check('a method', (await vault.auths()).data['approle/'].description, 'machines');
  await refused('the method is there', 400, 'path is already in use at approle/', () => vault.enableAuth({ mount_point: 'approle', type: 'approle' }));
  await vault.addApproleRole({ role_name: 'web', policies: 'app', secret_id_num_uses: 1, token_ttl: 1200 });
  check('roles', (await vault.approleRoles()).data.keys, ['web']);
  check('a role', pick((await vault.getApproleRole({ role_name: 'web' })).data, 'token_policies', 'token_ttl', 'secret_id_num_uses'), [['app'], 1200, 1]);
  await vault.updateApproleRoleId({ role_name: 'web', role_id: 'web-1' });
  check('its ID', (await vault.getApproleRoleId({ role_name: 'web' })).data.role_id, 'web-1');
  const made = (await vault.getApproleRoleSecret({ role_name: 'web', metadata: '{"a":"b"}' })).data;
  check('accessors', (await vault.approleSecretAccessors({ role_name: 'web' })).data.keys, [made.secret_id_accessor]);
  check('looked up', (await vault.approleSecretLookup({ role_name: 'web', secret_id: made.secret_id })).data.metadata, { a: 'b' });
  check('by its accessor', (await vault.approleSecretAccessorLookup({ role_name: 'web', secret_id_accessor: made.secret_id_accessor })).data.secret_id_num_uses, 1);
  const robot = connect();
  const { auth } = await robot.approleLogin({ role_id: 'web-1', secret_id: made.secret_id });
  check('logged in', pick(auth, 'policies', 'lease_duration', 'metadata'), [['app', 'default'], 1200, { a: 'b', role_name: 'web' }]);
  check('who it is', (await robot.tokenLookupSelf()).data.display_name, 'approle');
  await refused('what it may not', 403, 'permission denied', () => robot.read('secret/data/other'));
  await refused('used up', 400, 'invalid role or secret ID', () => robot.approleLogin({ role_id: 'web-1', secret_id: made.secret_id }));
  const other = (await vault.getApproleRoleSecret({ role_name: 'web' })).data;
  await vault.approleSecretDestroy({ role_name: 'web', secret_id: other.secret_id });
  await vault.deleteApproleRole({ role_name: 'web' });
  await refused('no role is left', 404, 'Status 404', () => vault.approleRoles());
  await vault.disableAuth({ mount_point: 'approle' });
  await vault.enableAuth({ mount_point: 'userpass', type: 'userpass' });
  await vault.write('auth/userpass/users/bob', { password: 's3cret word', policies: 'app' });
  const person = connect();
  check('a person', (await person.userpassLogin({ username: 'bob', password: 's3cret word' })).auth.metadata, { username: 'bob' });
  check('who it is', (await person.tokenLookupSelf()).data.display_name, 'userpass-bob');

  // Seal and unseal.
  await vault.seal();
  check('sealed', (await vault.status()).sealed, true);
  check('health while sealed', pick(await vault.health(), 'initialized', 'sealed'), [true, true]);
  await refused('a sealed keep gives nothing again', 503, 'Vault is sealed', () => vault.read('secret/config'));
  await refused('no share', 400, 'not a recovery share', () => vault.unseal({ key: 'c2hhcmU=' }));
  for (const [i, key] of first.recovery_keys.slice(0, 2).entries()) {
    check('a share', pick(await vault.unseal({ key }), 'sealed', 'progress'), [true, i + 1]);
  }
  check('the last share', (await vault.unseal({ key: first.recovery_keys_base64[4] })).sealed, false);
  await vault.seal();
  await refused('a bare unseal', 403, 'sealed by request', () => vault.unseal());
  for (const key of first.recovery_keys.slice(0, 3)) await vault.unseal({ key });
  check('shares again', (await vault.status()).sealed, false);
  check('all is there', (await vault.read('team/config')).data.max_versions, 7);

  await vault.unmount({ mount_point: 'team' });
  check('mounts at last', Object.keys((await vault.mounts()).data).sort(), ['cubbyhole/', 'secret/', 'state/', 'sys/']);
  await refused('a mount that is gone', 404, 'no handler for route', () => vault.read('team/config'));
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
