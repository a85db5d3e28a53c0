import { readFileSync } from 'node:fs';
import path from 'node:path';
import { rootFolder } from './test-files.ts';

/**
 * Prints the version of Node that runs this script and throws where it is older than `engines` of package.json
 * asks for, so that a log always shows what a result was obtained with.
 */
export function requireNode(): void {
  const manifest: unknown = JSON.parse(readFileSync(path.join(rootFolder, 'package.json'), 'utf8'));
  const wanted = /"node":">=(\d+)\.(\d+)\.\d+"/.exec(JSON.stringify(manifest));
  if (!wanted) throw new Error('package.json states no engines.node of the form >=x.y.z');
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [wantedMajor, wantedMinor] = [Number(wanted[1]), Number(wanted[2])];
  console.log(`node ${process.version} (${process.execPath})`);
  if (major < wantedMajor || (major === wantedMajor && minor < wantedMinor)) {
    throw new Error(`Node ${wantedMajor}.${wantedMinor} or newer is needed; run this through npm`);
  }
}
