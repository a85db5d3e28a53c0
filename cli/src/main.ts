#!/usr/bin/env node
import { enableCompileCache } from 'node:module';

// Before anything else is loaded, or the cache would miss it; hence the dynamic import.
enableCompileCache();
const { runStoa } = await import('./run.ts');
process.exitCode = await runStoa(process.argv.slice(2));
