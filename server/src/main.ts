import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

// V8 collects its old generation each time that has grown by a tenth, which under load is more than once a second and an
// eighth of a process's CPU; so it may double first. The heap is 60 MiB then (decision 0028).
setFlagsFromString('--heap-growing-percent=100');
// Before anything else is loaded, or the cache would miss it; hence the dynamic import.
enableCompileCache();
const { runCommand } = await import('./app/commands.ts');
await runCommand(process.argv.slice(2));
