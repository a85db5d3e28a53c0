/** The steps of `npm run check`. Each takes the root to look at, so that a test can point it at a planted fault. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { boundedFiles, findBreaches } from '../boundaries.ts';
import { rules } from '../boundaries/rules.ts';
import { findBreaks, publishedPath, readPublished } from '../events/compatibility.ts';
import { eventSchemas } from '../events/schemas.ts';
import { findStaleFiles } from '../generate.ts';
import { findForbiddenWords } from './words.ts';

export interface StepResult {
  isGreen: boolean;
  /** What is wrong and where, for people; one line about what was looked at where nothing is. */
  report: string;
}

export interface Step {
  name: string;
  run: (root: string) => Promise<StepResult>;
}

const toolDeadlineMs = 5 * 60_000;

/** Runs a tool that is installed in node_modules with this Node; green means it exits with 0. */
function tool(script: string, ...args: string[]): Step['run'] {
  const program = path.join(import.meta.dirname, '../../node_modules', script);
  return (root) =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [program, ...args], {
        cwd: root,
        stdio: ['ignore', 'pipe', 'pipe'],
        timeout: toolDeadlineMs,
      });
      const chunks: string[] = [];
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => chunks.push(chunk));
      child.once('error', (error) => resolve({ isGreen: false, report: error.message }));
      child.once('close', (code, signal) => {
        const ending = code === null ? `\nended by ${signal ?? 'nobody knows what'}` : '';
        resolve({ isGreen: code === 0, report: `${chunks.join('').trim()}${ending}` });
      });
    });
}

function boundaries(root: string): StepResult {
  const breaches = findBreaches(root);
  const lines = breaches.map(
    ({ file, line, specifier, rule }) => `${file}:${line} imports "${specifier}": ${rule.id}, ${rule.reason}`,
  );
  const checked = boundedFiles(root).length;
  if (checked === 0) return { isGreen: false, report: 'no source was found' };
  if (lines.length === 0) return { isGreen: true, report: `${checked} files, ${rules.length} rules` };
  return { isGreen: false, report: lines.join('\n') };
}

async function generated(root: string): Promise<StepResult> {
  const { checked, stale } = await findStaleFiles(root);
  if (stale.length === 0) return { isGreen: checked > 0, report: `${checked} files are as generated` };
  return { isGreen: false, report: `out of date: ${stale.join(', ')}\nwrite them with: npm run generate` };
}

/** Whether readers of what was published, below `root`, can read what this tree's sources tell. */
export function events(root: string): StepResult {
  const published = readPublished(root);
  if (published === null) {
    return {
      isGreen: false,
      report: `${publishedPath} is missing: what was promised to readers is not known`,
    };
  }
  const breaks = findBreaks(published, eventSchemas());
  if (breaks.length === 0) return { isGreen: true, report: `${Object.keys(published).length} events` };
  const advice = `\na break is a new version of the type, in a file of its own, beside the old one`;
  return { isGreen: false, report: breaks.join('\n') + advice };
}

function words(root: string): StepResult {
  const { checked, breaches } = findForbiddenWords(root);
  if (checked === 0) return { isGreen: false, report: 'no file was found' };
  if (breaches.length === 0) return { isGreen: true, report: `${checked} files` };
  const lines = breaches.map(({ file, line, text, reason }) => `${file}:${line} ${text}\n  ${reason}`);
  return { isGreen: false, report: lines.join('\n') };
}

/** Longest first: they run two at a time. */
export const steps: readonly Step[] = [
  { name: 'lint', run: tool('oxlint/bin/oxlint', '--format=unix') },
  { name: 'unused', run: tool('knip/bin/knip.js', '--no-progress', '--no-config-hints') },
  { name: 'types', run: tool('typescript/bin/tsc', '-p', 'tsconfig.json', '--pretty', 'false') },
  { name: 'format', run: tool('@biomejs/biome/bin/biome', 'format', '--colors=off', '.') },
  { name: 'boundaries', run: (root) => Promise.resolve(boundaries(root)) },
  { name: 'generated', run: generated },
  { name: 'events', run: (root) => Promise.resolve(events(root)) },
  { name: 'words', run: (root) => Promise.resolve(words(root)) },
];
