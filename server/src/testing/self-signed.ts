import { generateKeyPairSync, sign } from 'node:crypto';

/** A certificate for a TLS server of a test, its own authority. PEM. */
export interface SelfSigned {
  readonly cert: string;
  readonly key: string;
}

/** Tag, length, content: DER, as X.509 (RFC 5280) writes everything. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const size = content.length;
  const length = size < 128 ? [size] : size < 256 ? [0x81, size] : [0x82, size >> 8, size & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), content]);
}

const sequence = (...parts: readonly Buffer[]): Buffer => der(0x30, ...parts);
const ed25519 = sequence(der(0x06, Buffer.from('2b6570', 'hex')));
const commonName = der(0x06, Buffer.from('550403', 'hex'));
const subjectAlternativeName = der(0x06, Buffer.from('551d11', 'hex'));

/** Valid from an hour ago for a day, for one host name and no address. */
export function selfSigned(hostName: string): SelfSigned {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const name = sequence(der(0x31, sequence(commonName, der(0x0c, Buffer.from(hostName)))));
  const time = (ms: number): Buffer =>
    der(0x17, Buffer.from(`${new Date(ms).toISOString().slice(2, 19).replace(/[-:T]/g, '')}Z`));
  const alternatives = sequence(der(0x82, Buffer.from(hostName)));
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ed25519,
    name,
    sequence(time(Date.now() - 3_600_000), time(Date.now() + 86_400_000)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(sequence(subjectAlternativeName, der(0x04, alternatives)))),
  );
  const signature = der(0x03, Buffer.from([0]), sign(null, body, privateKey));
  const lines = sequence(body, ed25519, signature).toString('base64').replace(/.{64}/g, '$&\n');
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
