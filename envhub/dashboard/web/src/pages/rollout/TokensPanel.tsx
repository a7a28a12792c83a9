import { useApi } from '../../api/queries'
import type { Row } from '../../api/types'
import { Link, usePlace } from '../../shell/router'
import { count, plural } from '../../text/format'
import { RowView } from '../../tokens/RowView'
import { Notice, Ready } from '../../ui/Notice'

/** The rows of a rollout's trajectory, one at a time, token by token. */
export function TokensPanel({ id }: { id: string }) {
  const asked = useApi('/api/rollouts/{rollout_id}/rows', { rollout_id: id })
  return (
    <Ready of={asked} what="the rows">
      {(rows) =>
        rows.length === 0 ? (
          <Notice title="No model call was made, so there are no tokens" />
        ) : (
          <Rows id={id} rows={rows} />
        )
      }
    </Ready>
  )
}

function Rows({ id, rows }: { id: string; rows: Row[] }) {
  const place = usePlace()
  const selected = Number(place.get('row')) || 0
  const row = rows[selected]
  return (
    <>
      {rows.length > 1 && (
        <nav className="row-tabs" aria-label="Rows of the trajectory">
          {rows.map((one) => (
            <Link
              key={one.row}
              href={place.with({ row: one.row, token: '', turn: '' })}
              aria-current={one.row === selected ? 'page' : undefined}
            >
              Row {one.row}
              <small>
                {one.parent === null
                  ? plural(one.turns.length, 'turn')
                  : `leaves row ${one.parent} at ${count(one.fork_at)}`}
              </small>
            </Link>
          ))}
        </nav>
      )}
      {row ? <RowView key={`${id}/${row.row}`} id={id} row={row} /> : <Notice title={`There is no row ${selected}`} />}
    </>
  )
}
