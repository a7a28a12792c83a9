import { ArrowDown, ArrowUp } from 'lucide-react'
import { useEffect, useRef, type MouseEvent, type ReactNode } from 'react'

import type { RolloutSummary } from '../../api/types'
import { Link, navigate, rolloutUrl, usePlace } from '../../shell/router'
import { useNow } from '../../ui/time'
import { COLUMNS, shownColumns, type Column } from './columns'

interface Props {
  rollouts: RolloutSummary[]
  current?: number // the line that the keyboard is on; -1: none
  selected?: ReadonlySet<string>
  onSelect?: (id: string) => void // without it, none can be selected
}

export function RolloutTable({ rollouts, current = -1, selected, onSelect }: Props) {
  const place = usePlace()
  const ids = shownColumns(place.get('columns'))
  const columns = COLUMNS.filter((column) => ids.includes(column.id))
  const now = useNow(rollouts.some((rollout) => rollout.ended_at === null))
  return (
    <div className="table-frame">
      <table className="rollouts">
        <caption className="hidden">Rollouts</caption>
        <thead>
          <tr>
            {onSelect && (
              <th className="tick">
                <span className="hidden">Compare</span>
              </th>
            )}
            <th scope="col">Rollout</th>
            {columns.map((column) => (
              <Head key={column.id} column={column} sortable={onSelect !== undefined} />
            ))}
          </tr>
        </thead>
        <tbody>
          {rollouts.map((rollout, n) => (
            <Line key={rollout.rollout_id} current={n === current} id={rollout.rollout_id}>
              {onSelect && (
                <td className="tick">
                  <input
                    type="checkbox"
                    aria-label={`Compare ${rollout.rollout_id}`}
                    checked={selected?.has(rollout.rollout_id) ?? false}
                    onChange={() => onSelect(rollout.rollout_id)}
                  />
                </td>
              )}
              <th scope="row">
                <Link href={rolloutUrl(rollout.rollout_id)}>{rollout.rollout_id}</Link>
                {rollout.parent !== null && <span className="tag">child</span>}
                {rollout.attempt > 0 && <span className="tag">try {rollout.attempt + 1}</span>}
              </th>
              {columns.map((column) => (
                <td
                  key={column.id}
                  className={[column.number && 'number', column.wide && 'wide'].filter(Boolean).join(' ')}
                >
                  {column.cell(rollout, now)}
                </td>
              ))}
            </Line>
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Head({ column, sortable }: { column: Column; sortable: boolean }) {
  const place = usePlace()
  const by = place.get('sort') || 'started'
  const descending = place.get('descending') !== 'false'
  const sorted = sortable && column.sort === by
  const sort = () =>
    place.set({
      sort: column.sort === 'started' ? '' : column.sort,
      descending: sorted && descending ? 'false' : '',
      cursor: '',
      at: '',
    })
  const Arrow = descending ? ArrowDown : ArrowUp
  return (
    <th
      scope="col"
      className={column.number ? 'number' : undefined}
      aria-sort={sorted ? (descending ? 'descending' : 'ascending') : undefined}
    >
      {sortable && column.sort ? (
        <button className="sort" onClick={sort}>
          {column.label}
          {sorted && <Arrow size={12} aria-hidden />}
        </button>
      ) : (
        column.label
      )}
    </th>
  )
}

/** Pressing it anywhere opens the rollout; its link is there for the keyboard and for new tabs. */
function Line({ id, current, children }: { id: string; current: boolean; children: ReactNode }) {
  const row = useRef<HTMLTableRowElement>(null)
  useEffect(() => {
    if (current) row.current?.scrollIntoView({ block: 'nearest' })
  }, [current])
  const open = (event: MouseEvent) => {
    if ((event.target as Element).closest('a, input, button') || getSelection()?.toString()) return
    navigate(rolloutUrl(id))
  }
  return (
    <tr ref={row} className={current ? 'pick current' : 'pick'} onClick={open}>
      {children}
    </tr>
  )
}
