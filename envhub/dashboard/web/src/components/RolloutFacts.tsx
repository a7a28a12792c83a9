import type { ReactNode } from 'react'

import { query } from '../api'
import { count, decimal, duration, versions } from '../format'
import { useNow } from '../hooks'
import { Link } from '../router'
import type { Rollout, Score } from '../types'
import { Duration, Moment, Reward } from './Facts'

export function FailureNotice({ of }: { of: Rollout }) {
  const { failure, summary } = of
  if (!failure) return null
  return (
    <section className="failure" role="note" aria-label="Failure">
      <h2>
        Failed at the {failure.boundary}
        <small>{failure.retryable ? 'may be tried again' : 'not retryable'}</small>
        {summary.requeued && <small>queued again</small>}
      </h2>
      <pre>{failure.message}</pre>
    </section>
  )
}

export function ScorePanel({ score }: { score: Score | null }) {
  if (!score)
    return (
      <section className="panel">
        <h2>Score</h2>
        <p className="muted">No valid score.</p>
      </section>
    )
  const components = Object.entries(score.components)
  const largest = Math.max(1e-9, ...components.map(([, value]) => Math.abs(value)))
  return (
    <section className="panel">
      <h2>
        Score <Reward value={score.scalar} />
      </h2>
      <dl className="components">
        {components.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              {decimal(value)}
              {score.durations[name] !== undefined && (
                <small className="muted" title="time to compute">
                  {duration(score.durations[name])}
                </small>
              )}
            </dd>
            <meter
              className={value < 0 ? 'negative' : ''}
              min={0}
              max={largest}
              value={Math.abs(value)}
              aria-label={`${name}, against the largest component`}
            />
          </div>
        ))}
      </dl>
      {score.explanation && <p className="explanation">{score.explanation}</p>}
    </section>
  )
}

export function Facts({ of }: { of: Rollout }) {
  const { summary, request, usage, seed } = of
  const now = useNow(summary.ended_at === null)
  return (
    <section className="panel">
      <h2>Facts</h2>
      <dl className="facts">
        <Fact name="Run">
          <Link href={`/${query({ run: summary.run_id })}`}>{summary.run_id}</Link>
        </Fact>
        <Fact name="Group">{summary.group_id}</Fact>
        <Fact name="Member">
          {summary.member}, try {summary.attempt + 1}
        </Fact>
        <Fact name="Started">
          <Moment at={summary.started_at} />
        </Fact>
        <Fact name="Duration">
          <Duration of={summary} now={now} />
        </Fact>
        <Fact name="Policy">
          {request?.policy_id ?? '–'} {versions(summary.version_min, summary.version_max)}
          {request && !request.trainable && <small className="tag">not trained</small>}
        </Fact>
        {request && <Fact name="Agent">{request.agent}</Fact>}
        {request && <Fact name="Judge">{request.judge || 'the environment’s own'}</Fact>}
        <Fact name="Tokens">
          {count(summary.prompt_tokens)} prompt, {count(summary.sampled_tokens)} sampled
        </Fact>
        <Fact name="Turns">{count(summary.turns)}</Fact>
        {usage && <Fact name="Steps">{count(usage.steps)}</Fact>}
        {usage && <Fact name="Tool calls">{count(usage.tool_calls)}</Fact>}
        {usage && usage.children > 0 && <Fact name="Children">{count(usage.children)}</Fact>}
        {request && (
          <Fact name="Sampling">
            temperature {decimal(request.sampling.temperature)}, at most {count(request.sampling.max_tokens)} a turn
          </Fact>
        )}
        {request && (
          <Fact name="Limits">
            {count(request.limits.max_turns)} turns, {count(request.limits.max_tokens)} tokens,{' '}
            {duration(request.limits.deadline_s)}
          </Fact>
        )}
        {seed !== null && <Fact name="Seed">{seed}</Fact>}
      </dl>
    </section>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  )
}
