import { isList, member, textOf } from '../json-member.ts';
import { refuseInvalid, refuseUnsupported } from './refusal.ts';

export type Block = Readonly<Record<string, unknown>> & { readonly type: string };

const IMAGE_DATA = /^data:(image\/(?:jpeg|png|gif|webp));base64,([A-Za-z0-9+/=\s]+)$/;
const PDF_DATA = /^data:application\/pdf;base64,([A-Za-z0-9+/=\s]+)$/;

/** Cache marks on a part, as clients of OpenAI-format gateways write them, are the provider's own and pass. */
function cacheMark(part: unknown): { readonly cache_control?: { readonly type: 'ephemeral' } } {
  return textOf(member(part, 'cache_control'), 'type') === 'ephemeral'
    ? { cache_control: { type: 'ephemeral' } }
    : {};
}

/** A text block; none for an empty text, which the Messages API refuses. */
export function textBlocks(text: string, part: unknown = null): Block[] {
  return text === '' ? [] : [{ type: 'text', text, ...cacheMark(part) }];
}

function imageBlock(part: unknown, param: string): Block {
  const url = textOf(member(part, 'image_url'), 'url') ?? textOf(part, 'image_url');
  if (url === null) refuseInvalid(`${param}.image_url`, 'An image part needs image_url.url.');
  if (/^https?:\/\//i.test(url)) return { type: 'image', source: { type: 'url', url }, ...cacheMark(part) };
  const [, mediaType, data] = IMAGE_DATA.exec(url) ?? [];
  if (mediaType === undefined || data === undefined) {
    refuseInvalid(
      `${param}.image_url.url`,
      'An image is an http URL, or a base64 data URL of JPEG, PNG, GIF or WebP.',
    );
  }
  return { type: 'image', source: { type: 'base64', media_type: mediaType, data }, ...cacheMark(part) };
}

function documentBlock(part: unknown, param: string): Block {
  const [, data] = PDF_DATA.exec(textOf(member(part, 'file'), 'file_data') ?? '') ?? [];
  if (data === undefined)
    refuseUnsupported(`${param}.file`, 'The target takes files as base64 data URLs of PDF only.');
  const title = textOf(member(part, 'file'), 'filename');
  const source = { type: 'base64', media_type: 'application/pdf', data };
  return { type: 'document', source, ...(title === null ? {} : { title }), ...cacheMark(part) };
}

function partBlocks(part: unknown, param: string, allowsMedia: boolean): Block[] {
  const type = textOf(part, 'type');
  if (type === 'text') {
    return textBlocks(
      textOf(part, 'text') ?? refuseInvalid(`${param}.text`, 'A text part needs a text.'),
      part,
    );
  }
  if (type === 'refusal') return textBlocks(textOf(part, 'refusal') ?? '');
  if (allowsMedia && type === 'image_url') return [imageBlock(part, param)];
  if (allowsMedia && type === 'file') return [documentBlock(part, param)];
  return refuseUnsupported(`${param}.type`, 'The target does not take this type of content here.');
}

/**
 * The content of a message as blocks: a text, a list of parts, or nothing.
 * @param allowsMedia images and PDF files are taken too; only a user's message and a tool's result have them
 */
export function contentBlocks(content: unknown, param: string, allowsMedia: boolean): Block[] {
  if (content === null || content === undefined) return [];
  if (typeof content === 'string') return textBlocks(content);
  if (!isList(content)) return refuseInvalid(param, 'The content is a text or a list of parts.');
  return content.flatMap((part, index) => partBlocks(part, `${param}[${index}]`, allowsMedia));
}
