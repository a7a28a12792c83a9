import { useEffect, useState } from 'react'

import { ApiError, getJson, query } from '../api'
import { count, plural } from '../format'
import { Link, rolloutUrl } from '../router'
import { append, type Columns } from '../tokens/columns'
import { Legend } from '../tokens/Legend'
import { TokenView } from '../tokens/TokenView'
import type { Row, RowTokens } from '../types'
import { Loading, Notice, Problem } from './Notice'

const WINDOW = 8192 // tokens a request

/** The rows of a rollout's trajectory, one at a time, token by token. */
export function TokensPanel({ id, rows, selected }: { id: string; rows: Row[] | undefined; selected: number }) {
  if (!rows) return <Loading what="the rows" />
  if (rows.length === 0) return <Notice title="No model call was made, so there are no tokens" />
  const row = rows[selected]
  return (
    <>
      {rows.length > 1 && <RowTabs id={id} rows={rows} selected={selected} />}
      {row ? <RowView key={`${id}/${row.row}`} id={id} row={row} /> : <Notice title={`There is no row ${selected}`} />}
    </>
  )
}

function RowTabs({ id, rows, selected }: { id: string; rows: Row[]; selected: number }) {
  return (
    <nav className="row-tabs" aria-label="Rows of the trajectory">
      {rows.map((row) => (
        <Link
          key={row.row}
          href={rolloutUrl(id, query({ view: 'tokens', row: row.row }))}
          aria-current={row.row === selected ? 'page' : undefined}
        >
          Row {row.row}
          <small>
            {row.parent === null
              ? plural(row.turns.length, 'turn')
              : `leaves row ${row.parent} at ${count(row.fork_at)}`}
          </small>
        </Link>
      ))}
    </nav>
  )
}

function RowView({ id, row }: { id: string; row: Row }) {
  const { columns, error } = useColumns(id, row)
  if (error) return <Problem error={error} />
  if (!columns) return <Loading what={plural(row.tokens, 'token')} />
  const loaded = columns.ids.length
  return (
    <section className="tokens" aria-label={`Tokens of row ${row.row}`}>
      <div className="token-bar">
        <p>
          <b>{plural(row.tokens, 'token')}</b>, {count(row.sampled)} sampled, {count(row.trainable)} trained
          {loaded < columns.total && <span className="muted"> · {count(loaded)} loaded</span>}
          {columns.pieces === null && <span className="muted"> · ids only: the server has no tokenizer for this run</span>}
        </p>
        <Legend />
      </div>
      <TokenView columns={columns} label={`Row ${row.row}, ${plural(row.tokens, 'token')}`} />
      <p className="hint">
        Point at a token or press an arrow key to see its log probability. <kbd>n</kbd> and <kbd>p</kbd> go to the next
        and previous sampled run.
      </p>
    </section>
  )
}

/** All tokens of a row, window by window; read anew when the row has grown. */
function useColumns(id: string, { row, tokens }: Row): { columns: Columns | undefined; error: ApiError | undefined } {
  const [columns, setColumns] = useState<Columns>()
  const [error, setError] = useState<ApiError>()
  useEffect(() => {
    const abort = new AbortController()
    const load = async (): Promise<void> => {
      let read: Columns | undefined
      while (!read || read.ids.length < read.total) {
        const window = query({ offset: read?.ids.length ?? 0, limit: WINDOW })
        const base = `/api/rollouts/${encodeURIComponent(id)}/rows/${row}/tokens`
        read = append(read, await getJson<RowTokens>(base + window, abort.signal))
        const now = read
        setColumns((shown) => (shown && shown.ids.length > now.ids.length ? shown : now))
      }
    }
    load().catch((problem: unknown) => {
      if (abort.signal.aborted) return
      if (!(problem instanceof ApiError)) throw problem
      setError(problem)
    })
    return () => abort.abort()
  }, [id, row, tokens])
  return { columns, error }
}
