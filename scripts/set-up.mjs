/**
 * Installs what is missing and decides which Node the npm scripts run on. Every npm script runs this first, so
 * that a fresh clone needs nothing but Node 20 and npm. It is plain JavaScript because it must run before
 * anything is installed, on the Node of the shell.
 *
 * What is there is told by a stamp inside node_modules: a hash over the lock, the dependency fields of every
 * workspace and the platform. npm removes node_modules when it begins, so an install that did not reach its end
 * leaves no stamp, and the next run tries again. Where a person ran npm by hand there is no stamp either; then
 * npm's own record of the tree is compared with the lock, package by package.
 *
 * Node: npm puts node_modules/.bin first on PATH, and the optional dependency `node-linux-<cpu>` puts a `node`
 * there. On a shell whose own Node is new enough that link is taken away, so that the shell's Node is used as it
 * is; on an older one it is put back.
 *
 * Two runs at once: see `acquireLock`.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const modulesFolder = path.join(root, 'node_modules');
const stampFile = path.join(modulesFolder, '.set-up-stamp.json');
const lockFolder = path.join(root, '.set-up-lock');
const linkFile = path.join(modulesFolder, '.bin', 'node');
const bundledPackage = `node-${process.platform}-${process.arch}`;
const bundledNode = path.join(modulesFolder, bundledPackage, 'bin', 'node');
const lockWaitMs = 15 * 60 * 1000;
const lockPollMs = 200;

/** The fields of a package.json that change what npm installs; others (scripts, description) do not. */
const dependencyFields = [
  'bin',
  'dependencies',
  'devDependencies',
  'name',
  'optionalDependencies',
  'overrides',
  'peerDependencies',
  'version',
  'workspaces',
];

class SetUpError extends Error {}

function say(line) {
  process.stderr.write(`set-up: ${line}\n`);
}

function readJson(file) {
  return JSON.parse(readFileSync(file, 'utf8'));
}

/** Compares dotted versions by number: negative, zero or positive like a sort callback. */
function compareVersions(left, right) {
  const [a, b] = [left, right].map((version) =>
    version.replace(/^v/, '').split('-')[0].split('.').map(Number),
  );
  for (let index = 0; index < 3; index += 1) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function dependenciesHash(rootPackage) {
  const hash = createHash('sha256');
  hash.update(`${process.platform} ${process.arch}\n`);
  hash.update(readFileSync(path.join(root, 'package-lock.json')));
  for (const folder of ['.', ...rootPackage.workspaces]) {
    const content = folder === '.' ? rootPackage : readJson(path.join(root, folder, 'package.json'));
    for (const field of dependencyFields) {
      hash.update(`\n${folder} ${field} ${JSON.stringify(content[field] ?? null)}`);
    }
  }
  return hash.digest('hex');
}

/** What npm says it put into node_modules, or undefined where it has not finished an install. */
function installedPackages() {
  try {
    return readJson(path.join(modulesFolder, '.package-lock.json')).packages;
  } catch {
    return undefined;
  }
}

/** True when npm's record of the tree holds what the lock asks for, nothing else, in the same versions. */
function matchesLock(installed) {
  const wanted = readJson(path.join(root, 'package-lock.json')).packages;
  const isModule = (name) => name.startsWith('node_modules/');
  for (const name of Object.keys(wanted).filter(isModule)) {
    const entry = wanted[name];
    const found = installed[name];
    if (!found) {
      if (entry.optional || entry.peer) continue;
      return false;
    }
    if (found.version !== entry.version || found.integrity !== entry.integrity) return false;
  }
  return Object.keys(installed)
    .filter(isModule)
    .every((name) => wanted[name]);
}

/** One line that says why an install is needed, or undefined where nothing is missing. Costs a few ms. */
function reasonToInstall(hash, needsBundledNode) {
  if (!existsSync(modulesFolder)) return 'nothing is installed yet';
  const installed = installedPackages();
  if (!installed) return 'the last installation did not finish';
  const stamp = readStamp();
  if (stamp !== hash && (stamp !== undefined || !matchesLock(installed))) {
    return 'the dependencies have changed since the last installation';
  }
  const lost = Object.keys(installed).find((name) => !existsSync(path.join(root, name, 'package.json')));
  if (lost) return `${lost} is missing`;
  if (needsBundledNode && !existsSync(bundledNode)) return `${bundledPackage} is missing`;
  return undefined;
}

function isExecutable(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The Node that the shell itself has: the first on PATH that this project did not put there. */
function shellNode() {
  const own = path.join(modulesFolder, '.bin');
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const name = process.platform === 'win32' ? 'node.exe' : 'node';
  for (const folder of folders.filter((entry) => entry !== '' && path.resolve(entry) !== own)) {
    const file = path.join(folder, name);
    if (!isExecutable(file)) continue;
    if (isBundled(file)) continue;
    if (realpathSync(file) === realpathSync(process.execPath)) return { file, version: process.version };
    const { stdout, status } = spawnSync(file, ['--version'], { encoding: 'utf8' });
    if (status === 0) return { file, version: stdout.trim() };
  }
  return undefined;
}

/** True for a `node` that comes out of this tree's node_modules under another spelling of the path. */
function isBundled(file) {
  return existsSync(bundledNode) && realpathSync(file) === realpathSync(bundledNode);
}

/** A number that tells a process from a later one with the same id; undefined for a dead one that nobody has
 * reaped yet, and where the system does not tell. */
function startTime(pid) {
  try {
    const content = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = content.slice(content.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function isAlive({ pid, started }) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
  return started === undefined || startTime(pid) === started;
}

function identify(pid) {
  return { pid, started: startTime(pid) };
}

/** Writes the processes that hold generation `number` of the lock, in one step. */
function writeHolders(number, holders) {
  const draft = path.join(lockFolder, `draft-${process.pid}`);
  writeFileSync(draft, JSON.stringify(holders));
  renameSync(draft, path.join(lockFolder, String(number)));
}

/**
 * One attempt to take the lock: its generation, or the process that holds it.
 *
 * The lock is a folder of numbered files, each naming the processes that hold it (this one, and npm once it
 * runs: it may outlive us). The highest number counts. It is free when none of its processes lives, and then
 * the next number is made by `link`, which exactly one of many wins. Nothing is ever unlocked: dying is enough,
 * so a killed process leaves no lock behind, and taking over a dead one's has no window.
 */
function tryLock() {
  mkdirSync(lockFolder, { recursive: true });
  const numbers = lockNumbers();
  const last = Math.max(0, ...numbers);
  if (last > 0) {
    const holder = readHolders(last).find(isAlive);
    if (holder) return { holder };
  }
  const draft = path.join(lockFolder, `draft-${process.pid}`);
  writeFileSync(draft, JSON.stringify([identify(process.pid)]));
  try {
    linkSync(draft, path.join(lockFolder, String(last + 1)));
  } catch (error) {
    if (error.code === 'EEXIST') return {};
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  // Between the look and the link others may have come and gone: the highest number never falls, so it decides.
  if (lockNumbers().some((number) => number > last + 1)) {
    rmSync(path.join(lockFolder, String(last + 1)), { force: true });
    return {};
  }
  for (const number of numbers) rmSync(path.join(lockFolder, String(number)), { force: true });
  return { number: last + 1 };
}

function lockNumbers() {
  return readdirSync(lockFolder)
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function readHolders(number) {
  try {
    return readJson(path.join(lockFolder, String(number)));
  } catch {
    return [];
  }
}

/** Waits until this process holds the lock, at most 15 minutes; says once for whom it waits. */
async function acquireLock() {
  const deadline = Date.now() + lockWaitMs;
  let hasSaid = false;
  for (;;) {
    const { number, holder } = tryLock();
    if (number) return number;
    if (holder && !hasSaid) {
      say(`another set-up (process ${holder.pid}) is installing; waiting for it`);
      hasSaid = true;
    }
    if (Date.now() > deadline) {
      throw new SetUpError(
        `process ${holder?.pid} has been installing for 15 minutes. End it, then try again.`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, lockPollMs));
  }
}

/** npm as a command: the one that runs this script, on the shell's Node, since ours is about to be replaced. */
function npmCommand(shell) {
  const script = process.env.npm_execpath;
  if (script && path.basename(script) === 'npm-cli.js' && existsSync(script)) {
    return [shell?.file ?? process.execPath, script];
  }
  return ['npm'];
}

/** Runs `npm ci` to its end with its output on stderr; throws with what to do where it fails. */
async function install(lockNumber, shell) {
  const [command, ...leading] = npmCommand(shell);
  const options = [
    'ci',
    '--include=dev',
    '--include=optional',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ];
  const environment = { ...process.env };
  // A script of npm hands its own settings down (a chosen workspace, ignored scripts); they are not ours.
  for (const name of [
    'npm_config_workspace',
    'npm_config_workspaces',
    'npm_config_omit',
    'npm_config_global',
  ]) {
    delete environment[name];
  }
  const child = spawn(command, [...leading, ...options], {
    cwd: root,
    env: environment,
    stdio: ['ignore', 2, 2],
  });
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve({ error }));
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  if (child.pid) writeHolders(lockNumber, [identify(process.pid), identify(child.pid)]);
  const stop = (signal) => child.kill(signal);
  process.on('SIGTERM', stop).on('SIGINT', stop);
  const { error, code, signal } = await ended;
  process.off('SIGTERM', stop).off('SIGINT', stop);
  if (error)
    throw new SetUpError(`npm could not be started (${error.message}). Install npm, then try again.`);
  if (signal) throw new SetUpError(`the installation was ended by ${signal}. The same command tries again.`);
  if (code !== 0) {
    throw new SetUpError(
      `"npm ci" failed with code ${code} (its own words are above). It needs a package registry within reach ` +
        'or a filled npm cache, and a lock that fits package.json. The same command tries again.',
    );
  }
}

function unsupported(shell, minimum) {
  return new SetUpError(
    `Node ${minimum} or newer is needed, this shell has ${shell?.version ?? 'none'}, and there is no bundled ` +
      `Node for ${process.platform} on ${process.arch} (only for Linux on x64 and arm64). ` +
      'Install a newer Node (nodejs.org), then run the same command again.',
  );
}

/** True where node_modules/.bin/node is anything, also a link into nothing. */
function hasLink() {
  return lstatSync(linkFile, { throwIfNoEntry: false }) !== undefined;
}

/** Makes `node` in npm's scripts mean the right one. Returns what it changed, or undefined. */
function settleNode(needsBundledNode, shell, minimum) {
  if (!needsBundledNode) {
    if (!hasLink()) return undefined;
    rmSync(linkFile, { force: true });
    return `using this shell's own Node ${shell.version}`;
  }
  if (hasLink() && existsSync(linkFile)) return undefined;
  checkBundledNode(shell, minimum);
  mkdirSync(path.dirname(linkFile), { recursive: true });
  const draft = `${linkFile}-${process.pid}`;
  symlinkSync(path.relative(path.dirname(linkFile), bundledNode), draft);
  renameSync(draft, linkFile);
  return `using the bundled Node, since this shell has ${shell?.version ?? 'none'}`;
}

/** An old C library, or none of that kind, shows only when the program is started. */
function checkBundledNode(shell, minimum) {
  if (!existsSync(bundledNode)) {
    throw new SetUpError(
      `npm left the optional package ${bundledPackage} out (its download failed, or "omit" is set). ` +
        `Try again, or install Node ${minimum} or newer.`,
    );
  }
  const { stdout, status } = spawnSync(bundledNode, ['--version'], { encoding: 'utf8' });
  if (status !== 0 || compareVersions(stdout.trim(), minimum) < 0) throw unsupported(shell, minimum);
}

async function setUp() {
  const rootPackage = readJson(path.join(root, 'package.json'));
  const minimum = rootPackage.engines.node.replace('>=', '');
  const shell = shellNode();
  const needsBundledNode = !shell || compareVersions(shell.version, minimum) < 0;
  const hasBundledNode = Object.hasOwn(rootPackage.optionalDependencies, bundledPackage);
  if (needsBundledNode && !hasBundledNode) throw unsupported(shell, minimum);

  const hash = dependenciesHash(rootPackage);
  if (reasonToInstall(hash, needsBundledNode)) {
    const lockNumber = await acquireLock();
    const reason = reasonToInstall(hash, needsBundledNode);
    if (reason) {
      const started = Date.now();
      say(`${reason}; installing with "npm ci" (a minute or so the first time)`);
      await install(lockNumber, shell);
      say(`installed in ${((Date.now() - started) / 1000).toFixed(1)} s`);
    }
  }
  if (readStamp() !== hash) {
    if (needsBundledNode) checkBundledNode(shell, minimum);
    writeStamp(hash);
  }
  const change = settleNode(needsBundledNode, shell, minimum);
  if (change) say(change);
}

function readStamp() {
  return existsSync(stampFile) ? readFileSync(stampFile, 'utf8').trim() : undefined;
}

/** In an image whose node_modules belongs to another user the stamp stays away; then each run compares anew. */
function writeStamp(hash) {
  try {
    writeFileSync(stampFile, `${hash}\n`);
  } catch (error) {
    if (error.code !== 'EACCES' && error.code !== 'EROFS') throw error;
  }
}

try {
  await setUp();
} catch (error) {
  if (!(error instanceof SetUpError)) throw error;
  say(error.message);
  process.exitCode = 1;
}
