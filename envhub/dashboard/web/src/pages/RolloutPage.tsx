import type { ReactNode } from 'react'

import { LiveDot, Reward, StatusChip } from '../components/Facts'
import { Loading, Problem } from '../components/Notice'
import { Logs, TaskView } from '../components/Records'
import { Facts, FailureNotice, ScorePanel } from '../components/RolloutFacts'
import { TokensPanel } from '../components/TokensPanel'
import { Transcript } from '../components/Transcript'
import { Tree } from '../components/Tree'
import { query } from '../api'
import { useApi, useLive, useTitle } from '../hooks'
import { Link, rolloutUrl, usePlace } from '../router'
import type { Rollout, Row } from '../types'

const VIEWS = ['transcript', 'tokens', 'task', 'logs'] as const
type View = (typeof VIEWS)[number]

export function RolloutPage({ id }: { id: string }) {
  useTitle(id)
  const { generation, live } = useLive(`/api/events${query({ rollout: id })}`)
  const base = `/api/rollouts/${encodeURIComponent(id)}`
  const rollout = useApi<Rollout>(base, generation)
  const rows = useApi<Row[]>(`${base}/rows`, generation)
  if (!rollout.data) return rollout.error ? <Problem error={rollout.error} /> : <Loading what="the rollout" />
  const { summary } = rollout.data
  return (
    <>
      <nav className="crumbs" aria-label="Where you are">
        <Link href="/">Rollouts</Link>
        <Link href={`/${query({ run: summary.run_id })}`}>{summary.run_id}</Link>
        {summary.parent && <Link href={rolloutUrl(summary.parent)}>{summary.parent}</Link>}
      </nav>
      <div className="title">
        <h1>{id}</h1>
        <StatusChip of={summary} />
        {summary.reward !== null && (
          <span className="headline-reward">
            reward <Reward value={summary.reward} />
          </span>
        )}
        <LiveDot state={live} />
      </div>
      <p className="subtitle">
        {summary.environment} · {summary.task_id}
      </p>
      {rollout.error && <Problem error={rollout.error} />}
      <div className="columns">
        <div className="main-column">
          <FailureNotice of={rollout.data} />
          <Views id={id} rollout={rollout.data} rows={rows.data} />
        </div>
        <aside aria-label="About this rollout">
          <ScorePanel score={rollout.data.score} />
          <Tree tree={rollout.data.tree} size={rollout.data.tree_size} current={id} />
          <Facts of={rollout.data} />
        </aside>
      </div>
    </>
  )
}

function Views({ id, rollout, rows }: { id: string; rollout: Rollout; rows: Row[] | undefined }) {
  const { search } = usePlace()
  const view = VIEWS.find((name) => name === search.get('view')) ?? 'transcript'
  const tokens = rollout.summary.prompt_tokens + rollout.summary.sampled_tokens
  const sizes: Partial<Record<View, number>> = {
    transcript: rollout.transcript.length,
    tokens,
    logs: rollout.logs.length,
  }
  const content: Record<View, () => ReactNode> = {
    transcript: () => <Transcript entries={rollout.transcript} rows={rows?.length ?? 0} />,
    tokens: () => <TokensPanel id={id} rows={rows} selected={Number(search.get('row') ?? 0)} />,
    task: () => <TaskView request={rollout.request} />,
    logs: () => <Logs logs={rollout.logs} />,
  }
  return (
    <>
      <nav className="tabs" aria-label="Views of this rollout">
        {VIEWS.map((name) => (
          <Link
            key={name}
            href={rolloutUrl(id, name === 'transcript' ? '' : query({ view: name }))}
            aria-current={name === view ? 'page' : undefined}
          >
            {name}
            {sizes[name] !== undefined && <small>{sizes[name].toLocaleString('en')}</small>}
          </Link>
        ))}
      </nav>
      {content[view]()}
    </>
  )
}
