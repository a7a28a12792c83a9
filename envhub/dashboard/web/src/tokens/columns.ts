/** The tokens of one row by column, put together from the windows that the API gives. */

import type { RowTokens, Span } from '../api/types'

export interface Columns {
  total: number // of the row; more than ids.length while windows are on their way
  ids: number[]
  pieces: string[] | null
  logprobs: (number | null)[]
  spans: Span[] // tile the ids
}

/** The row with one window more. Its arrays are those of `before`, grown at their ends: 200,000 tokens are not copied. */
export function grown(before: Columns | undefined, window: RowTokens): Columns {
  const { total, ids, pieces, logprobs, spans } = window
  if (!before) return { total, ids, pieces, logprobs, spans }
  append(before.ids, ids)
  append(before.logprobs, logprobs)
  append(before.spans, spans)
  if (before.pieces && pieces) append(before.pieces, pieces)
  return { ...before, total, pieces: pieces && before.pieces } // one window without text, and all show ids
}

function append<T>(to: T[], items: T[]): void {
  for (const item of items) to.push(item)
}

/** The span that a token lies in. */
export function spanAt(columns: Columns, token: number): Span {
  let low = 0
  let high = columns.spans.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (columns.spans[middle]!.start <= token) low = middle
    else high = middle - 1
  }
  return columns.spans[low]!
}

/** Where the turn of a token begins and ends: what one model call sampled, or what its prompt brought. */
export function turnAround(columns: Columns, token: number): [number, number] {
  const { turn, sampled } = spanAt(columns, token)
  const same = columns.spans.filter((span) => span.turn === turn && span.sampled === sampled)
  return [same[0]!.start, same.at(-1)!.end]
}
