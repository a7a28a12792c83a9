import type { Rollout, Score } from '../../api/types'
import { Link, rolloutUrl, runUrl } from '../../shell/router'
import { count, decimal, duration, versions } from '../../text/format'
import { LongText } from '../../text/SafeText'
import { oneLine } from '../../text/visible'
import { Duration, Fact, Facts, Moment } from '../../ui/Facts'
import { useNow } from '../../ui/time'
import { Tree } from './Tree'

/** What is known of a rollout, beside what was said. */
export function Aside({ rollout }: { rollout: Rollout }) {
  const { summary, usage, seed, request } = rollout
  const now = useNow(summary.ended_at === null)
  return (
    <aside className="stack" aria-label="What is known of it">
      {rollout.score && <ScorePanel score={rollout.score} />}
      <section className="panel">
        <h2>Facts</h2>
        <Facts>
          <Fact name="run">
            <Link href={runUrl(summary.run_id)}>{summary.run_id}</Link>
          </Fact>
          <Fact name="policy">
            {oneLine(summary.policy_id, 60)} {versions(summary.version_min, summary.version_max)}
          </Fact>
          {request && <Fact name="agent">{oneLine(request.agent, 60)}</Fact>}
          <Fact name="started">
            <Moment at={summary.started_at} />
          </Fact>
          <Fact name="took">
            <Duration of={summary} now={now} />
          </Fact>
          <Fact name="tokens">
            {count(summary.sampled_tokens)} sampled{' '}
            <span className="muted">of {count(summary.prompt_tokens + summary.sampled_tokens)}</span>
          </Fact>
          <Fact name="turns">{count(summary.turns)}</Fact>
          {usage && <Fact name="tool calls">{count(usage.tool_calls)}</Fact>}
          {usage && usage.children > 0 && (
            <Fact name="children">
              {count(usage.finished_children)} of {count(usage.children)} finished
            </Fact>
          )}
          <Fact name="member">
            {summary.member}, try {summary.attempt + 1}
          </Fact>
          {seed !== null && (
            <Fact name="seed">
              <code>{seed}</code>
            </Fact>
          )}
        </Facts>
      </section>
      {rollout.tree_size > 1 && (
        <section className="panel">
          <h2>
            Tree{' '}
            <small>
              <Link href={rolloutUrl(summary.rollout_id, 'timeline')}>
                {count(rollout.tree_size)} rollouts, as a timeline
              </Link>
            </small>
          </h2>
          <Tree nodes={rollout.tree} size={rollout.tree_size} current={summary.rollout_id} />
        </section>
      )}
    </aside>
  )
}

function ScorePanel({ score }: { score: Score }) {
  const most = Math.max(1, ...Object.values(score.components).map(Math.abs))
  return (
    <section className="panel">
      <h2>
        Score <b>{decimal(score.scalar)}</b>
      </h2>
      <dl className="components">
        {Object.entries(score.components).map(([name, value]) => (
          <div key={name}>
            <dt>{oneLine(name, 60)}</dt>
            <dd>
              {score.durations[name] !== undefined && (
                <small className="muted">{duration(score.durations[name])}</small>
              )}{' '}
              {decimal(value)}
            </dd>
            <span className="diverging" aria-hidden>
              <i
                className={value < 0 ? 'negative' : ''}
                style={{ width: `${(50 * Math.abs(value)) / most}%`, [value < 0 ? 'right' : 'left']: '50%' }}
              />
            </span>
          </div>
        ))}
      </dl>
      {score.explanation && (
        <div className="explanation">
          <LongText text={score.explanation} />
        </div>
      )}
    </section>
  )
}
