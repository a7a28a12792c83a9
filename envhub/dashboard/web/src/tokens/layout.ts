/** Breaks a row into lines of a fixed number of columns, so that the view can draw only those in sight. */

import { escaped, INVISIBLE } from '../text/visible'
import type { Columns } from './columns'

export interface Part {
  token: number
  text: string
  at: number // column of the line that it begins at
  wide: number // columns
  mark?: 'newline' | 'tab' | 'control' | 'nothing' // stands for what has no glyph of its own
}

export interface Line {
  first: number // the token that its first part belongs to
  parts: Part[]
}

type Unplaced = Omit<Part, 'at'>

// Newlines and tabs too: here every character has a place of its own.
const AT_INVISIBLE = new RegExp(`(${INVISIBLE.source}|[\\n\\t])`, 'u')
const HIDDEN = new RegExp(`^(?:${INVISIBLE.source}|[\\n\\t])$`, 'u')
const ZERO_WIDTH = /[\p{Mn}\p{Me}\ufe00-\ufe0f]/u
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u
const TAB = '    '

/** Printable ASCII, whose every character is a column wide in any font that we use. */
export const PLAIN = /^[ -~]*$/

function width(character: string): number {
  if (ZERO_WIDTH.test(character)) return 0
  return WIDE.test(character) ? 2 : 1
}

function textWidth(text: string): number {
  if (PLAIN.test(text)) return text.length
  return Array.from(text).reduce((sum, character) => sum + width(character), 0)
}

/** A piece of text as parts that never hold a newline or an invisible character unmarked. */
function parts(token: number, piece: string): Unplaced[] {
  if (piece === '') return [{ token, text: '⋯', wide: 1, mark: 'nothing' }]
  if (PLAIN.test(piece)) return [{ token, text: piece, wide: piece.length }]
  return piece
    .split(AT_INVISIBLE)
    .filter((text) => text !== '')
    .map((text): Unplaced => {
      if (text === '\n') return { token, text: '', wide: 1, mark: 'newline' }
      if (text === '\t') return { token, text: TAB, wide: TAB.length, mark: 'tab' }
      if (!HIDDEN.test(text)) return { token, text, wide: textWidth(text) }
      const shown = `⟨${text.codePointAt(0)!.toString(16).padStart(4, '0')}⟩`
      return { token, text: shown, wide: shown.length, mark: 'control' }
    })
}

/** A piece of text as a string literal in which every invisible character is escaped. */
export function literal(piece: string): string {
  return JSON.stringify(piece)
    .split(new RegExp(`(${INVISIBLE.source})`, 'u'))
    .map((text, n) => (n % 2 === 1 ? escaped(text) : text))
    .join('')
}

/** The parts cut so that none is wider than a line. */
function* cut(part: Unplaced, columns: number): Generator<Unplaced> {
  let text = ''
  let used = 0
  for (const character of part.text) {
    const wide = width(character)
    if (used + wide > columns) {
      yield { ...part, text, wide: used }
      text = ''
      used = 0
    }
    text += character
    used += wide
  }
  yield { ...part, text, wide: used }
}

/** The lines of a row that grows at its end. */
export class Layout {
  readonly lines: Line[] = []
  readonly lineOf: number[] = [] // of each token: the line that it begins on
  readonly perLine: number
  private used = 0 // columns of the last line
  private full = true // the last line takes nothing more

  constructor(perLine: number) {
    this.perLine = perLine
  }

  /** Goes on to the last token that there is. */
  extend({ ids, pieces }: Columns): void {
    for (let token = this.lineOf.length; token < ids.length; token++) {
      for (const part of parts(token, pieces ? pieces[token]! : `${ids[token]} `)) this.place(part)
    }
  }

  private place(part: Unplaced): void {
    if (part.wide > this.perLine) {
      for (const slice of cut(part, this.perLine)) {
        this.full = true
        this.put(slice)
      }
      return
    }
    if (this.used + part.wide > this.perLine && part.mark !== 'newline') this.full = true
    this.put(part)
    if (part.mark === 'newline') this.full = true
  }

  private put(part: Unplaced): void {
    if (this.full) {
      this.lines.push({ first: part.token, parts: [] })
      this.used = 0
      this.full = false
    }
    this.lineOf[part.token] ??= this.lines.length - 1
    this.lines.at(-1)!.parts.push({ ...part, at: this.used })
    this.used += part.wide
  }
}
