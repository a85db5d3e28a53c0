import { enableCompileCache } from 'node:module';

// Before anything else is loaded, or the cache would miss it; hence the dynamic import.
enableCompileCache();
const { runCommand } = await import('./app/commands.ts');
await runCommand(process.argv.slice(2));
