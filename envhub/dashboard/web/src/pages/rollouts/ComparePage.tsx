import { useQueries } from '@tanstack/react-query'

import { get } from '../../api/client'
import { REPORT_MS, useLive } from '../../api/live'
import { ApiError } from '../../api/request'
import type { Rollout } from '../../api/types'
import { PageHead } from '../../shell/PageHead'
import { Link, rolloutUrl, usePlace } from '../../shell/router'
import { count, duration, plural, versions } from '../../text/format'
import { oneLine } from '../../text/visible'
import { Fact, Facts, Reward, StatusChip } from '../../ui/Facts'
import { Loading, Notice, Problem } from '../../ui/Notice'
import { EntryBody } from '../rollout/EntryBody'

const MOST = 8
const SHOWN = 30 // messages of each

/** Some rollouts side by side, whatever they have in common. */
export function ComparePage() {
  const ids = usePlace().get('ids').split(',').filter(Boolean).slice(0, MOST)
  useLive('/api/events', REPORT_MS)
  const asked = useQueries({
    queries: ids.map((id) => ({
      queryKey: ['/api/rollouts/{rollout_id}', { rollout_id: id }],
      queryFn: ({ signal }: { signal: AbortSignal }) => get('/api/rollouts/{rollout_id}', { rollout_id: id }, signal),
    })),
  })
  const failed = asked.find((one) => one.error instanceof ApiError)?.error
  return (
    <>
      <PageHead title={`Compare ${plural(ids.length, 'rollout')}`} crumbs={[['Rollouts', '/rollouts']]} />
      {ids.length < 2 && <Notice title="Select two rollouts or more in the list" />}
      {failed instanceof ApiError && <Problem error={failed} />}
      <div className="members" tabIndex={0} role="group" aria-label="Rollouts, side by side">
        {asked.map(({ data }, n) =>
          data ? <Column key={ids[n]} rollout={data} /> : <Loading key={ids[n]} what={ids[n]!} />,
        )}
      </div>
    </>
  )
}

function Column({ rollout }: { rollout: Rollout }) {
  const { summary, transcript } = rollout
  return (
    <section className="panel member" aria-label={summary.rollout_id}>
      <header>
        <Link className="mono" href={rolloutUrl(summary.rollout_id)}>
          {summary.rollout_id}
        </Link>
        <StatusChip of={summary} />
        <Reward value={summary.reward} />
      </header>
      <Facts>
        <Fact name="task">
          {oneLine(summary.environment, 60)}, {oneLine(summary.task_id, 60)}
        </Fact>
        <Fact name="version">{versions(summary.version_min, summary.version_max)}</Fact>
        <Fact name="tokens">{count(summary.sampled_tokens)}</Fact>
        <Fact name="took">{summary.ended_at === null ? 'runs' : duration(summary.ended_at - summary.started_at)}</Fact>
      </Facts>
      {transcript.slice(0, SHOWN).map((entry, n) => (
        <article key={n} className={`message ${entry.message.role}`}>
          <h3>{entry.message.role}</h3>
          <EntryBody id={summary.rollout_id} index={n} entry={entry} />
        </article>
      ))}
      {transcript.length > SHOWN && (
        <Link href={rolloutUrl(summary.rollout_id)}>and {plural(transcript.length - SHOWN, 'more message')}</Link>
      )}
    </section>
  )
}
