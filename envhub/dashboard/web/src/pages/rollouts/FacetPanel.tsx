import { useApi } from '../../api/queries'
import type { RolloutFilters } from '../../api/types'
import { Bars, Histogram } from '../../charts/Bars'
import { usePlace } from '../../shell/router'

const SHOWN = 5

/** How the rollouts that match are spread, on demand. */
export function FacetPanel({ filters }: { filters: RolloutFilters }) {
  const place = usePlace()
  const open = place.get('facets') === 'open'
  const { sort: _, descending: __, limit: ___, cursor: ____, ...wanted } = filters
  const { data } = useApi('/api/rollouts/facets', wanted, { enabled: open, keep: true })
  const top = (counts: Record<string, number>, name: string) =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .slice(0, SHOWN)
      .map(([value, n]) => ({ name: value, count: n, href: place.with({ [name]: value, cursor: '' }) }))
  return (
    <details
      className="facet-panel"
      open={open}
      onToggle={(event) =>
        place.get('facets') !== (event.currentTarget.open ? 'open' : '') &&
        place.set({ facets: event.currentTarget.open ? 'open' : '' })
      }
    >
      <summary>How they are spread</summary>
      {data && (
        <div className="panel facets">
          <section>
            <h3>Status</h3>
            <Bars items={top(data.status, 'status')} />
          </section>
          <section>
            <h3>Environment</h3>
            <Bars items={top(data.environment, 'environment')} />
          </section>
          <section>
            <h3>Boundary</h3>
            <Bars items={top(data.boundary, 'boundary').map((item) => ({ ...item, color: '--bad' }))} />
          </section>
          <section>
            <h3>Reward</h3>
            <Histogram label="Rollouts by reward" of={data.reward} color="--tool" />
          </section>
          <section>
            <h3>Sampled tokens</h3>
            <Histogram label="Rollouts by sampled tokens" of={data.sampled_tokens} color="--environment" />
          </section>
        </div>
      )}
    </details>
  )
}
