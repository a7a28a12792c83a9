/** All tokens of a row: the first window at once; the others are asked for side by side, and added in their order. */

import { useEffect, useState } from 'react'

import { getPlain } from '../api/client'
import { ApiError } from '../api/request'
import type { Row, RowTokens } from '../api/types'
import { grown, type Columns } from './columns'

const FIRST = 4096 // tokens of the window that is shown first
const WINDOW = 16_384
const AT_ONCE = 3 // requests: a browser has six connections to a server, and one is the live stream's

interface Read {
  columns: Columns | undefined
  error: ApiError | undefined
}

/** Read anew when the row has grown. */
export function useColumns(id: string, { row, tokens }: Row): Read {
  const [read, setRead] = useState<Read>({ columns: undefined, error: undefined })
  useEffect(() => {
    const abort = new AbortController()
    const window = (offset: number, limit: number) =>
      getPlain('/api/rollouts/{rollout_id}/rows/{row}/tokens', { rollout_id: id, row, offset, limit }, abort.signal)
    const load = async (): Promise<void> => {
      let columns: Columns | undefined
      const show = (window: RowTokens) => {
        columns = grown(columns, window)
        const read = columns // of a row that was read before, more may be in sight already
        setRead((shown) =>
          shown.columns && shown.columns.ids.length > read.ids.length ? shown : { columns: read, error: undefined },
        )
      }
      const first = await window(0, FIRST)
      show(first)
      const offsets: number[] = []
      for (let offset = first.ids.length; offset < first.total; offset += WINDOW) offsets.push(offset)
      await inOrder(offsets, (offset) => window(offset, WINDOW), show)
    }
    load().catch((problem: unknown) => {
      if (abort.signal.aborted) return
      if (!(problem instanceof ApiError)) throw problem
      setRead((shown) => ({ ...shown, error: problem }))
    })
    return () => abort.abort()
  }, [id, row, tokens])
  return read
}

/** Asks for the windows, some at once, and takes each after those before it. */
async function inOrder(
  offsets: number[],
  ask: (offset: number) => Promise<RowTokens>,
  take: (window: RowTokens) => void,
): Promise<void> {
  const answers = new Map<number, RowTokens>()
  const waiting = offsets.values()
  let next = 0
  const worker = async () => {
    for (const offset of waiting) {
      answers.set(offset, await ask(offset))
      for (let answer = answers.get(offsets[next]!); answer; answer = answers.get(offsets[++next]!)) take(answer)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}
