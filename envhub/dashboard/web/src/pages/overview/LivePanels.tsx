import type { Live } from '../../api/types'
import { count, duration, plural } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Fact, Facts } from '../../ui/Facts'

/** What only the process that plays the run knows of itself. */
export function LivePanels({ of }: { of: Live }) {
  const { loop_lag: lag, engines, feed } = of
  return (
    <>
      <section className="panel third">
        <h2>Event loop</h2>
        <Facts>
          <Fact name="lag, median">{duration(lag.p50_s)}</Fact>
          <Fact name="lag, p99">{duration(lag.p99_s)}</Fact>
          <Fact name="longest">
            {duration(lag.max_s)}
            {lag.worst && (
              <span className="muted">
                {' '}
                in {oneLine(lag.worst.culprit)}, {oneLine(lag.worst.where)}
              </span>
            )}
          </Fact>
          <Fact name="to be stored">{count(of.backlog)} events</Fact>
        </Facts>
      </section>
      <section className="panel third">
        <h2>Slots and sandboxes</h2>
        <Facts>
          {of.slots && <Level name="slots" used={of.slots.held} limit={of.slots.limit} waiting={of.slots.waiting} />}
          {of.sandboxes && (
            <Fact name="sandboxes">
              {count(of.sandboxes.leased)} leased, {count(of.sandboxes.warm)} warm{' '}
              {of.sandboxes.waiting > 0 && <span className="warn">{count(of.sandboxes.waiting)} wait</span>}
              {of.sandboxes.failed > 0 && <span className="bad"> {count(of.sandboxes.failed)} failed</span>}
            </Fact>
          )}
          {feed && (
            <Fact name="feed">
              {count(feed.ready)} ready, {count(feed.leased)} leased
            </Fact>
          )}
          {Object.entries(feed?.waiting ?? {}).map(([consumer, waits]) => (
            <Fact key={consumer} name="waits">
              {count(waits)} <span className="muted">of {oneLine(consumer, 40)}</span>
            </Fact>
          ))}
        </Facts>
      </section>
      <section className="panel third">
        <h2>Engines</h2>
        <ul className="engines">
          {engines.map((engine) => (
            <li key={engine.policy_id}>
              <span className={`dot ${Object.keys(engine.outages).length > 0 ? 'bad' : 'good'}`} aria-hidden />
              <span>
                {oneLine(engine.policy_id, 40)} <span className="muted">{oneLine(engine.model, 60)}</span>
                {Object.entries(engine.outages).map(([server, why]) => (
                  <small key={server} className="bad">
                    {oneLine(server, 80)}: {oneLine(why)}
                  </small>
                ))}
              </span>
              <small className="muted">
                {engine.servers === 0 ? 'in this process' : plural(engine.servers, 'server')}
              </small>
            </li>
          ))}
        </ul>
      </section>
    </>
  )
}

function Level({ name, used, limit, waiting }: { name: string; used: number; limit: number; waiting: number }) {
  return (
    <Fact name={name}>
      <span className="level">
        {count(used)} of {count(limit)}
        <span className="bar-track" role="img" aria-label={`${used} of ${limit} in use`}>
          <i style={{ width: `${(100 * used) / Math.max(1, limit)}%`, background: 'var(--engine)' }} />
        </span>
        {waiting > 0 && <span className="warn">{count(waiting)} wait</span>}
      </span>
    </Fact>
  )
}
