// An unmodified Vault client (node-vault) against a fresh server: ADDRESS, and CA_FILE with its certificate.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const nodeVault = require('node-vault');

const requestOptions = { ca: fs.readFileSync(process.env.CA_FILE) };
const client = (token) => nodeVault({ endpoint: process.env.ADDRESS, token, requestOptions });

/** The call must fail with this status, and with this text where one is given. */
async function refused(status, call, text = '') {
    await assert.rejects(call, (error) => {
        assert.equal(error.response.statusCode, status, error.message);
        assert.ok(error.message.includes(text), error.message);
        return true;
    });
}

const steps = {
    async init_and_unseal(run) {
        const vault = client();
        assert.equal((await vault.initialized()).initialized, false);
        const made = await vault.init({ secret_shares: 3, secret_threshold: 2 });
        assert.equal((await vault.status()).sealed, true);
        for (const key of made.keys.slice(0, 2)) {
            await vault.unseal({ key });
        }
        assert.equal((await vault.health()).sealed, false);
        run.root = made.root_token;
        run.admin = client(run.root);
    },

    async mounts(run) {
        const options = { version: '2' };
        await run.admin.mount({ mount_point: 'secret', type: 'kv', description: 'd', options });
        await run.admin.mount({ mount_point: 'plain', type: 'kv' });
        const mounts = await run.admin.mounts();
        assert.equal(mounts.data['secret/'].options.version, '2');
        assert.ok('cubbyhole/' in mounts.data);
        await run.admin.remount({ from: 'plain', to: 'moved' });
        assert.ok('moved/' in (await run.admin.mounts()).data);
        await run.admin.unmount({ mount_point: 'moved' });
        assert.ok('token/' in (await run.admin.auths()).data);
    },

    async versions_of_a_secret(run) {
        const vault = run.admin;
        for (const n of [1, 2, 3]) {
            const written = await vault.write('secret/data/app/db', { data: { n, text: 'ü\n"' } });
            assert.equal(written.data.version, n);
        }
        assert.deepEqual((await vault.read('secret/data/app/db')).data.data, { n: 3, text: 'ü\n"' });
        assert.equal((await vault.read('secret/data/app/db?version=1')).data.data.n, 1);
        await refused(400, () => vault.write('secret/data/app/db', { data: {}, options: { cas: 1 } }), 'check-and-set');
        await vault.delete('secret/data/app/db');
        await refused(404, () => vault.read('secret/data/app/db'));
        await vault.write('secret/undelete/app/db', { versions: [3] });
        await vault.destroySecretVersions({ mount_point: 'secret', path: 'app/db', versions: [1] });
        const known = (await vault.read('secret/metadata/app/db')).data;
        assert.equal(known.versions['1'].destroyed, true);
        assert.equal(known.current_version, 3);
    },

    async patches_subkeys_and_metadata(run) {
        const vault = run.admin;
        const patched = await vault.update('secret/data/app/db', { data: { text: null, more: { a: 1 } } });
        assert.equal(patched.data.version, 4);
        assert.deepEqual((await vault.read('secret/data/app/db')).data.data, { n: 3, more: { a: 1 } });
        const shown = (await vault.read('secret/subkeys/app/db')).data.subkeys;
        assert.deepEqual(shown, { n: null, more: { a: null } });
        await vault.write('secret/metadata/app/db', { custom_metadata: { own: 'us' }, max_versions: 5 });
        await vault.update('secret/metadata/app/db', { custom_metadata: { own: null, zone: 'b' } });
        assert.deepEqual((await vault.read('secret/metadata/app/db')).data.custom_metadata, { zone: 'b' });
        await vault.write('secret/config', { max_versions: 7 });
        assert.equal((await vault.read('secret/config')).data.max_versions, 7);
    },

    async names(run) {
        const vault = run.admin;
        await vault.write('secret/data/app/b/c', { data: { v: 1 } });
        assert.deepEqual((await vault.list('secret/metadata/app')).data.keys, ['b/', 'db']);
        const quiet = nodeVault({ endpoint: process.env.ADDRESS, token: run.root, requestOptions, noCustomHTTPVerbs: true });
        assert.deepEqual((await quiet.list('secret/metadata/app')).data.keys, ['b/', 'db']);
        await refused(404, () => vault.list('secret/metadata/none'));
        await vault.delete('secret/metadata/app/b/c');
        assert.deepEqual((await vault.list('secret/metadata/app')).data.keys, ['db']);
    },

    async version_1_and_cubbyhole(run) {
        const vault = run.admin;
        await vault.mount({ mount_point: 'one', type: 'kv', options: { version: '1' } });
        await vault.write('one/app', { v: 1 });
        assert.deepEqual((await vault.read('one/app')).data, { v: 1 });
        assert.deepEqual((await vault.list('one')).data.keys, ['app']);
        await vault.write('sys/mounts/one/tune', { options: { version: '2' } });
        assert.deepEqual((await vault.read('one/data/app')).data.data, { v: 1 });
        await vault.write('cubbyhole/mine', { v: 'x' });
        assert.deepEqual((await vault.read('cubbyhole/mine')).data, { v: 'x' });
    },

    async policies_and_tokens(run) {
        const rules = 'path "secret/data/app/*" { capabilities = ["read"] }';
        await run.admin.addPolicy({ name: 'reader', rules });
        assert.ok((await run.admin.policies()).policies.includes('reader'));
        assert.equal((await run.admin.getPolicy({ name: 'reader' })).rules, rules);
        // A client that has made a token goes on with it.
        const made = await client(run.root).tokenCreate({ policies: ['reader'], ttl: '1h', renewable: true });
        const token = made.auth.client_token;
        const reader = client(token);
        assert.equal((await reader.read('secret/data/app/db')).data.data.n, 3);
        await refused(403, () => reader.write('secret/data/app/db', { data: {} }), 'permission denied');
        assert.ok((await reader.tokenLookupSelf()).data.policies.includes('reader'));
        assert.ok((await reader.tokenRenewSelf({ increment: '2h' })).auth.lease_duration > 0);
        await run.admin.tokenRevoke({ token });
        await refused(403, () => reader.read('secret/data/app/db'));
        await run.admin.removePolicy({ name: 'reader' });
    },

    async transit(run) {
        const vault = run.admin;
        const b64 = (text) => Buffer.from(text).toString('base64');
        await vault.mount({ mount_point: 'transit', type: 'transit' });
        await refused(404, () => vault.transitReadKey({ name: 'absent' }));
        await vault.transitCreateKey({ name: 'pii', type: 'aes256-gcm96', exportable: true });
        assert.equal((await vault.transitReadKey({ name: 'pii' })).data.latest_version, 1);
        assert.deepEqual((await vault.transitListKeys()).data.keys, ['pii']);
        const sealed = (await vault.encryptData({ name: 'pii', plaintext: b64('x') })).data.ciphertext;
        await vault.write('transit/keys/pii/rotate', {});
        assert.equal((await vault.decryptData({ name: 'pii', ciphertext: sealed })).data.plaintext, b64('x'));
        const batch_input = [{ plaintext: b64('a') }, { plaintext: b64('b') }];
        const many = (await vault.encryptData({ name: 'pii', batch_input })).data.batch_results;
        const back = await vault.decryptData({ name: 'pii', batch_input: many.map(({ ciphertext }) => ({ ciphertext })) });
        assert.deepEqual(back.data.batch_results.map((one) => one.plaintext), [b64('a'), b64('b')]);
        const moved = await vault.write('transit/rewrap/pii', { ciphertext: sealed });
        assert.ok(moved.data.ciphertext.startsWith('vault:v2:'));
        await refused(400, () => vault.decryptData({ name: 'pii', ciphertext: 'vault:v1:AAAA' }));
        const key = await vault.write('transit/datakey/plaintext/pii', { bits: 256 });
        assert.equal(Buffer.from(key.data.plaintext, 'base64').length, 32);
        assert.equal(Object.keys((await vault.read('transit/export/encryption-key/pii')).data.keys).length, 2);
        await refused(400, () => vault.transitDeleteKey({ name: 'pii' }), 'deletion is not allowed');
        await vault.write('transit/keys/pii/config', { deletion_allowed: true });
        await vault.transitDeleteKey({ name: 'pii' });
        await refused(404, () => vault.transitReadKey({ name: 'pii' }));
    },

    async seal(run) {
        await run.admin.seal();
        assert.equal((await client().status()).sealed, true);
        await refused(503, () => run.admin.read('secret/data/app/db'), 'Vault is sealed');
    },
};

(async () => {
    const run = {};
    for (const [name, step] of Object.entries(steps)) {
        await step(run).catch((error) => {
            console.log(`FAILED ${name}`);
            throw error;
        });
        console.log(`ok ${name}`);
    }
    console.log(`${Object.keys(steps).length} passed, 0 failed`);
})().catch((error) => {
    console.error(error);
    process.exit(1);
});
