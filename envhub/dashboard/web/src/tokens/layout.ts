/** Breaks a row into lines of a fixed number of columns, so that the view can draw only those in sight. */

import type { Columns } from './columns'

export interface Part {
  token: number
  text: string
  mark?: 'newline' | 'tab' | 'control' | 'nothing' // stands for what has no glyph of its own
}

export interface Line {
  first: number // the token that its first part belongs to
  parts: Part[]
}

// Bidirectional overrides, zero-width and other invisible characters: shown by name, so that no text can hide.
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/u
const AT_INVISIBLE = new RegExp(`(${INVISIBLE.source})`, 'u')
const ZERO_WIDTH = /[\p{Mn}\p{Me}\ufe00-\ufe0f]/u
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u
const PLAIN = /^[ -~]*$/

function width(character: string): number {
  if (ZERO_WIDTH.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

function textWidth(text: string): number {
  if (PLAIN.test(text)) return text.length
  return Array.from(text).reduce((sum, character) => sum + width(character), 0)
}

/** A piece of text as parts that never hold a newline or an invisible character unmarked. */
export function parts(token: number, piece: string): Part[] {
  if (piece === '') return [{ token, text: '⋯', mark: 'nothing' }]
  if (PLAIN.test(piece)) return [{ token, text: piece }]
  return piece
    .split(AT_INVISIBLE)
    .filter((text) => text !== '')
    .map((text): Part => {
      if (text === '\n') return { token, text, mark: 'newline' }
      if (text === '\t') return { token, text, mark: 'tab' }
      if (!INVISIBLE.test(text)) return { token, text }
      return { token, text: `⟨${text.codePointAt(0)!.toString(16).padStart(4, '0')}⟩`, mark: 'control' }
    })
}

/** A piece of text as a string literal in which every invisible character is escaped. */
export function literal(piece: string): string {
  const escape = (character: string) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`
  return JSON.stringify(piece)
    .split(AT_INVISIBLE)
    .map((text) => (INVISIBLE.test(text) ? escape(text) : text))
    .join('')
}

/** The parts cut so that none is wider than a line. */
function* cut(part: Part, columns: number): Generator<Part> {
  let text = ''
  let used = 0
  for (const character of part.text) {
    const wide = width(character)
    if (used + wide > columns) {
      yield { ...part, text }
      text = ''
      used = 0
    }
    text += character
    used += wide
  }
  yield { ...part, text }
}

export function layout(columns: Columns, perLine: number): Line[] {
  const lines: Line[] = []
  let line: Line = { first: 0, parts: [] }
  let used = 0
  const breakLine = (next: number) => {
    lines.push(line)
    line = { first: next, parts: [] }
    used = 0
  }
  const place = (part: Part) => {
    const wide = part.mark === 'tab' ? 4 : part.mark === 'newline' ? 1 : textWidth(part.text)
    if (used > 0 && used + wide > perLine && part.mark !== 'newline') breakLine(part.token)
    if (wide > perLine) {
      for (const slice of cut(part, perLine)) {
        if (used > 0) breakLine(part.token)
        line.parts.push(slice)
        used = textWidth(slice.text)
      }
      return
    }
    line.parts.push(part)
    used += wide
    if (part.mark === 'newline') breakLine(part.token)
  }
  columns.ids.forEach((id, token) => {
    const piece = columns.pieces ? columns.pieces[token]! : `${id} `
    for (const part of parts(token, piece)) place(part)
  })
  if (line.parts.length > 0) lines.push(line)
  for (const one of lines) one.first = one.parts[0]!.token
  return lines
}

/** The line that each token begins on. */
export function lineOfToken(lines: Line[], tokens: number): Uint32Array {
  const found = new Uint32Array(tokens)
  for (let n = lines.length - 1; n >= 0; n--) for (const part of lines[n]!.parts) found[part.token] = n
  return found
}
