#!/usr/bin/env node
/**
 * Starts the `stoa` command on a Node that can run it. This file is plain JavaScript for Node 20, since the shell's Node
 * may be older than the one that Stoa needs: then the project's own is started in its place, with the same terminal, the
 * same exit code, and signals passed on.
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const program = path.join(root, 'cli/src/main.ts');
const minimum = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')).engines.node.replace(
  '>=',
  '',
);

function isNewEnough(version) {
  const [have, need] = [version, minimum].map((text) => text.split('.').map(Number));
  for (let index = 0; index < need.length; index += 1) {
    if (have[index] !== need[index]) return have[index] > need[index];
  }
  return true;
}

function projectNode() {
  return [
    path.join(root, 'node_modules/.bin/node'),
    path.join(root, `node_modules/node-${process.platform}-${process.arch}/bin/node`),
  ].find((file) => existsSync(file));
}

function startOn(node) {
  const child = spawn(node, [program, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'])
    process.on(signal, () => child.kill(signal));
  child.once('error', (error) => {
    process.stderr.write(`stoa: ${node} could not be started (${error.message}).\n`);
    process.exitCode = 1;
  });
  child.once('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  });
}

if (isNewEnough(process.versions.node)) {
  await import('../src/main.ts');
} else {
  const node = projectNode();
  if (node === undefined) {
    process.stderr.write(
      `stoa: Node ${minimum} or newer is needed; this is ${process.versions.node}, and the project's own is not ` +
        `installed.\nRun "npm start" or "npm ci" once in ${root}, or install a newer Node.\n`,
    );
    process.exitCode = 78;
  } else {
    startOn(node);
  }
}
