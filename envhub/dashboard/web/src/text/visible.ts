/** Text whose every character can be seen: what would hide, reorder or act is found, and shown by its number. */

// C0 and C1 controls but newline and tab, ANSI's ESC among them; bidirectional overrides; zero-width and other
// invisible characters. A joiner within an emoji is not hidden, so it stays.
export const INVISIBLE =
  /(?<!\p{Extended_Pictographic}\ufe0f?)\u200d|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u

const SPLIT = new RegExp(`(${INVISIBLE.source})`, 'u')

const NAMES: Record<string, string> = {
  '\u001b': 'escape, which begins an ANSI code',
  '\u0007': 'bell',
  '\u0000': 'null',
  '\r': 'carriage return',
  '\u200b': 'zero-width space',
  '\u202e': 'right-to-left override',
  '\u202d': 'left-to-right override',
  '\u202c': 'end of an override',
  '\u2066': 'left-to-right isolate',
  '\u2067': 'right-to-left isolate',
  '\u2069': 'end of an isolate',
}

export interface Piece {
  text: string
  hidden: boolean // `text` is one character that has no look of its own
}

export function pieces(text: string): Piece[] {
  if (!INVISIBLE.test(text)) return [{ text, hidden: false }]
  return text
    .split(SPLIT)
    .map((piece, n) => ({ text: piece, hidden: n % 2 === 1 }))
    .filter((piece) => piece.text !== '')
}

/** U+202E as `\u202e`. */
export const escaped = (character: string): string => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`

export const nameOf = (character: string): string => NAMES[character] ?? `invisible character ${escaped(character)}`

/** All of it on one line, for where there is one line alone. */
export const oneLine = (text: string, most = 200): string =>
  pieces(text.slice(0, most).replace(/\s+/g, ' '))
    .map((piece) => (piece.hidden ? escaped(piece.text) : piece.text))
    .join('')
