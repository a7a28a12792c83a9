/** The tokens of one row by column, put together from the windows that the API gives. */

import type { RowTokens, Span } from '../types'

export interface Columns {
  total: number // of the row; more than ids.length while windows are on their way
  ids: number[]
  pieces: string[] | null
  logprobs: (number | null)[]
  spans: Span[] // tile the ids
}

export function append(columns: Columns | undefined, window: RowTokens): Columns {
  if (!columns) return window
  return {
    total: window.total,
    ids: columns.ids.concat(window.ids),
    pieces: columns.pieces && window.pieces && columns.pieces.concat(window.pieces),
    logprobs: columns.logprobs.concat(window.logprobs),
    spans: columns.spans.concat(window.spans),
  }
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

/** Where each run of sampled tokens starts. */
export function sampledStarts(columns: Columns): number[] {
  const { spans } = columns
  return spans.filter((span, n) => span.sampled && !spans[n - 1]?.sampled).map((span) => span.start)
}

/** Lower bounds of the probabilities of the colour scale, the likeliest first; the last colour has none. */
export const BOUNDS = [0.95, 0.7, 0.3, 0.1, 0.01]

/** Which colour of the scale a sampled token has: 0 is the likeliest. */
export function surprise(logprob: number): number {
  const p = Math.exp(logprob)
  const level = BOUNDS.findIndex((bound) => p >= bound)
  return level < 0 ? BOUNDS.length : level
}
