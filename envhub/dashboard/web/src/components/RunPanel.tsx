import { count } from '../format'
import { writeFilters, readFilters } from '../filters'
import { Link, usePlace } from '../router'
import { MEMBER_STATES, type Run } from '../types'
import { Moment } from './Facts'

/** Where all members of a run are: each in exactly one state, and the states sum to what was submitted. */
export function RunPanel({ run, newestOf }: { run: Run; newestOf: number }) {
  const { search } = usePlace()
  const states = MEMBER_STATES.filter((state) => run.by_state[state])
  return (
    <section className="run" aria-label={`Members of run ${run.run_id}`}>
      <div className="run-head">
        <h2>
          <Link href={`/${writeFilters({ ...readFilters(search), run: run.run_id, cursor: '' })}`}>{run.run_id}</Link>
        </h2>
        <span className="muted">
          {newestOf > 1 ? `newest of ${newestOf} runs · ` : ''}started <Moment at={run.started_at} /> · seed {run.seed}
        </span>
        <span className={run.conserved ? 'verdict good' : 'verdict bad'}>
          {run.conserved ? (run.drained ? 'Conserved and drained' : 'Conserved') : 'Members are missing'}
        </span>
      </div>
      <div className="bar" aria-hidden="true">
        {states.map((state) => (
          <span key={state} className={`state-${state}`} style={{ flexGrow: run.by_state[state] ?? 0 }} />
        ))}
      </div>
      <ul className="states">
        {states.map((state) => (
          <li key={state}>
            <i className={`state-${state}`} aria-hidden="true" />
            <b>{count(run.by_state[state] ?? 0)}</b> {state}
          </li>
        ))}
        <li className="equation">{run.equation}</li>
      </ul>
    </section>
  )
}
