import { useMemo, useRef, useState } from 'react'

import { useApi } from '../api/queries'
import type { Marks, Row } from '../api/types'
import { useKeys } from '../shell/keys'
import { usePlace } from '../shell/router'
import { count, plural, versions } from '../text/format'
import { Copy } from '../ui/Copy'
import { Loading, Problem } from '../ui/Notice'
import { Segmented } from '../ui/Segmented'
import { MODES, type Mode } from './colors'
import { turnAround, type Columns } from './columns'
import { JumpBar } from './JumpBar'
import { jump, KINDS, placesOf, type JumpKind } from './jumps'
import { Legend } from './Legend'
import { TokenView } from './TokenView'
import { useColumns } from './useColumns'

/** One row with everything that leads through it. */
export function RowView({ id, row }: { id: string; row: Row }) {
  const { columns, error } = useColumns(id, row)
  const { data: marks } = useApi('/api/rollouts/{rollout_id}/rows/{row}/marks', { rollout_id: id, row: row.row })
  if (error && !columns) return <Problem error={error} />
  if (!columns) return <Loading what={plural(row.tokens, 'token')} />
  return <Loaded row={row} columns={columns} marks={marks} />
}

function Loaded({ row, columns, marks }: { row: Row; columns: Columns; marks: Marks | undefined }) {
  const place = usePlace()
  const mode = MODES.find(([name]) => name === place.get('color'))?.[0] ?? 'logprob'
  const active = useRef<number | null>(null)
  const [gone, setGone] = useState<number>()
  const places = useMemo(() => marks && placesOf(marks), [marks])
  const wanted = place.get('token') ? Number(place.get('token')) : turnStart(marks, place.get('turn'))
  const go = (kind: JumpKind, way: 1 | -1) => {
    const to = jump(places?.[kind] ?? [], active.current ?? gone ?? wanted ?? -1, way)
    if (to !== undefined) setGone(to)
  }
  useKeys(
    'Tokens',
    KINDS.flatMap(([kind, text, key]) => [
      { keys: key, does: `Next: ${text}`, run: () => go(kind, 1) },
      { keys: key.toUpperCase(), does: `Previous: ${text}`, run: () => go(kind, -1) },
    ]),
  )
  return (
    <section className="tokens" aria-label={`Tokens of row ${row.row}`}>
      <div className="token-bar">
        <p>
          <b>{plural(row.tokens, 'token')}</b>, {count(row.sampled)} sampled, {count(row.trainable)} trained
          {row.versions.length > 0 && `, ${versions(Math.min(...row.versions), Math.max(...row.versions))}`}
          {columns.ids.length < columns.total && <span className="muted"> · {count(columns.ids.length)} loaded</span>}
          {columns.pieces === null && (
            <span className="muted"> · ids only: the server has no tokenizer of this model</span>
          )}
        </p>
        <Copies columns={columns} active={() => active.current ?? gone ?? wanted ?? 0} />
      </div>
      <div className="token-bar">
        <Segmented<Mode>
          label="Colour by"
          options={MODES}
          value={mode}
          onChange={(name) => place.set({ color: name === 'logprob' ? '' : name })}
        />
        <Legend mode={mode} columns={columns} />
        {places && <JumpBar places={places} onJump={go} />}
      </div>
      <TokenView
        columns={columns}
        marks={marks}
        mode={mode}
        label={`Row ${row.row}, ${plural(row.tokens, 'token')}`}
        goTo={gone ?? wanted}
        onActive={(token) => {
          if (token !== null) active.current = token
        }}
        onPick={(token) => place.set({ token, turn: '' })}
      />
      <p className="hint">
        Point at a token, or press an arrow key, to see all that is known of it; press it to have it in the URL.
      </p>
    </section>
  )
}

function turnStart(marks: Marks | undefined, turn: string): number | undefined {
  return turn === '' ? undefined : marks?.turns.findLast((mark) => String(mark.turn) === turn)?.at
}

function Copies({ columns, active }: { columns: Columns; active: () => number }) {
  return (
    <span className="copies">
      ids of the row <Copy what="the ids of the row" text={() => JSON.stringify(columns.ids)} />
      of the turn{' '}
      <Copy
        what="the ids of the turn"
        text={() => JSON.stringify(columns.ids.slice(...turnAround(columns, active())))}
      />
    </span>
  )
}
