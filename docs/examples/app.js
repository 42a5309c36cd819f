const { setTimeout: sleep } = require('node:timers/promises');
const ca = require('node:fs').readFileSync(process.env.VAULT_CACERT);
const vault = require('node-vault')({ requestOptions: { ca } }); // VAULT_ADDR, VAULT_TOKEN

const passes = (error) => error.response?.statusCode === 503 || error.code === 'ECONNREFUSED';

async function main() {
    for (let version; ; await sleep(5000)) {
        try {
            const { data, metadata } = (await vault.read('secret/data/app/db')).data;
            if (metadata.version !== version) {
                version = metadata.version;
                console.log(`connected as ${data.user}, version ${version}`);
            }
            await vault.tokenRenewSelf();
        } catch (error) {
            if (!passes(error)) throw error; // sealed, or not there yet, passes; a refusal does not
        }
    }
}

main();
