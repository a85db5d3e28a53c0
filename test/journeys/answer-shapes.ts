import { explainedRequest, type ExplainedRequest, usageReport, type UsageReport } from '@stoa/contracts';
import { z } from 'zod';
import type { Answer, StoaProcess } from './stoa-process.ts';

/** Of every error answer: RFC 9457's members and OpenAI's. */
const errorShape = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string(),
  }),
});

/** The code of an answer that is an error in the one shape; throws where it is not. */
export function codeOf(answer: Answer): string {
  const body = errorShape.parse(answer.json);
  if (body.status !== answer.status)
    throw new Error(`the body says ${body.status}, the head ${answer.status}`);
  return body.error.code;
}

/** The one value of a header; throws where it is absent. */
export function headerOf(answer: Pick<Answer, 'headers'>, name: string): string {
  const value = answer.headers[name];
  if (typeof value !== 'string') throw new Error(`the answer has no header ${name}`);
  return value;
}

/** The explanation of a request, asked for once; throws where it is not there. */
export async function explain(stoa: StoaProcess, requestId: string, key?: string): Promise<ExplainedRequest> {
  const answer = await stoa.call('GET', `/v1/requests/${requestId}`, key === undefined ? {} : { key });
  if (answer.status !== 200) throw new Error(`${requestId}: ${answer.status} ${answer.text}`);
  return explainedRequest.parse(answer.json);
}

/** The usage of the key's tenant. */
export async function readUsage(stoa: StoaProcess, key?: string, query = ''): Promise<UsageReport> {
  const answer = await stoa.call('GET', `/v1/usage${query}`, key === undefined ? {} : { key });
  if (answer.status !== 200) throw new Error(`usage: ${answer.status} ${answer.text}`);
  return usageReport.parse(answer.json);
}

/** The newest requests of the key's tenant, at most 100, newest first. */
export async function listRequests(stoa: StoaProcess, query = '', key?: string): Promise<ExplainedRequest[]> {
  const options = key === undefined ? {} : { key };
  const answer = await stoa.call('GET', `/v1/requests?limit=100${query}`, options);
  if (answer.status !== 200) throw new Error(`requests: ${answer.status} ${answer.text}`);
  return z.object({ data: z.array(explainedRequest) }).parse(answer.json).data;
}
