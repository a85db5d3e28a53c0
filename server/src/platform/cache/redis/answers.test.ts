import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimpleError } from '@redis/client';
import { unableWord } from './answers.ts';

/** As Redis 7.0 and (inside its own sentence) Redis 6 word them. */
const refusals = {
  READONLY: [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 9282fe9c, on @user_script:1.",
    "ERR Error running script (call to f_9282): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
  ],
  OOM: ["OOM command not allowed when used memory > 'maxmemory'. script: 9282fe9c, on @user_script:1."],
  MASTERDOWN: ["MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."],
  NOREPLICAS: ['NOREPLICAS Not enough good replicas to write. script: 9282fe9c, on @user_script:1.'],
  LOADING: ['LOADING Redis is loading the dataset in memory'],
  BUSY: ['BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.'],
  MISCONF: [
    'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist to disk.',
  ],
  NOPERM: ["NOPERM this user has no permissions to run the 'evalsha' command"],
};

test('what a server says when it cannot serve is told from what is wrong with a command', () => {
  for (const [word, messages] of Object.entries(refusals))
    for (const message of messages) assert.equal(unableWord(new SimpleError(message)), word, message);
  for (const message of [
    'NOSCRIPT No matching script. Please use EVAL.',
    'WRONGTYPE Operation against a key holding the wrong kind of value',
    'ERR Wrong number of args calling Redis command from script',
  ])
    assert.equal(unableWord(new SimpleError(message)), null, message);
  assert.equal(unableWord(new Error('READONLY of another kind')), null);
});
