import { ChevronLeft, ChevronRight, Download } from 'lucide-react'

import { query } from '../../api/client'
import { useLive } from '../../api/live'
import { useApi } from '../../api/queries'
import { download } from '../../api/request'
import type { Rollout } from '../../api/types'
import { useKeys } from '../../shell/keys'
import { PageHead } from '../../shell/PageHead'
import { environmentUrl, groupUrl, Link, navigate, rolloutUrl, rolloutsUrl, taskUrl } from '../../shell/router'
import { trailOf } from '../../shell/trail'
import { oneLine } from '../../text/visible'
import { Copy } from '../../ui/Copy'
import { Reward, StatusChip } from '../../ui/Facts'
import { Menu } from '../../ui/Menu'
import { Ready } from '../../ui/Notice'
import { Tabs } from '../../ui/Tabs'
import { Aside } from './Aside'
import { BranchesPanel } from './branches/BranchesPanel'
import { CallsPanel } from './calls/CallsPanel'
import { Failure, Logs, TaskView } from './Records'
import { TimelinePanel } from './timeline/TimelinePanel'
import { TokensPanel } from './TokensPanel'
import { Transcript } from './Transcript'

const TABS = ['', 'timeline', 'tokens', 'branches', 'calls', 'task', 'logs'] as const
const LABELS: Record<string, string> = {
  '': 'Transcript',
  timeline: 'Timeline',
  tokens: 'Tokens',
  branches: 'Branches',
  calls: 'Calls',
  task: 'Task',
  logs: 'Logs',
}

/** One rollout from every side. */
export function RolloutPage({ id, tab }: { id: string; tab: string }) {
  useLive(`/api/events${query({ rollout: id })}`)
  const asked = useApi('/api/rollouts/{rollout_id}', { rollout_id: id })
  useApi('/api/rollouts/{rollout_id}/rows', { rollout_id: id }, { enabled: tab === 'tokens' }) // at the same time
  const trail = trailOf(id)
  const go = (to: string | undefined) => to !== undefined && navigate(rolloutUrl(to, tab))
  useKeys('Rollout', [
    { keys: '[', does: 'Previous rollout of the list', run: () => void go(trail.previous) },
    { keys: ']', does: 'Next rollout of the list', run: () => void go(trail.next) },
    { keys: 'u', does: 'Back to the list', run: () => navigate(trail.list) },
    ...TABS.map((name, n) => ({ keys: String(n + 1), does: LABELS[name]!, run: () => navigate(rolloutUrl(id, name)) })),
  ])
  return (
    <Ready of={asked} what={`rollout ${id}`}>
      {(rollout) => (
        <>
          <Head rollout={rollout} tab={tab} />
          <Panel rollout={rollout} tab={tab} />
        </>
      )}
    </Ready>
  )
}

function Head({ rollout, tab }: { rollout: Rollout; tab: string }) {
  const { summary } = rollout
  const id = summary.rollout_id
  const { previous, next } = trailOf(id)
  const crumbs: [string, string][] = [
    [summary.run_id, rolloutsUrl({ run: summary.run_id })],
    [oneLine(summary.environment), environmentUrl(summary.environment, summary.run_id)],
    [oneLine(summary.task_id, 60), taskUrl(summary.environment, summary.task_id, summary.run_id)],
    [`group ${summary.group_id}`, groupUrl(summary.group_id)],
  ]
  if (summary.parent !== null) crumbs.push([`parent ${summary.parent}`, rolloutUrl(summary.parent, tab)])
  const count = { '': rollout.transcript.length, logs: rollout.logs.length } as Record<string, number>
  return (
    <>
      <PageHead
        title={id}
        crumbs={crumbs}
        beside={
          <>
            <StatusChip of={summary} />
            <span className="headline">
              reward <Reward value={summary.reward} />
            </span>
          </>
        }
        actions={
          <>
            <Copy text={() => id} what="the rollout's id" />
            <Step to={previous} tab={tab} label="Previous rollout" />
            <Step to={next} tab={tab} label="Next rollout" />
            <ExportMenu id={id} />
          </>
        }
      />
      <Tabs
        label="Views of this rollout"
        current={tab}
        tabs={TABS.map((name) => ({ id: name, label: LABELS[name]!, href: rolloutUrl(id, name), count: count[name] }))}
      />
    </>
  )
}

function Step({ to, tab, label }: { to: string | undefined; tab: string; label: string }) {
  const Icon = label.startsWith('Previous') ? ChevronLeft : ChevronRight
  if (to === undefined) return null
  return (
    <Link className="step" href={rolloutUrl(to, tab)} aria-label={label} title={label}>
      <Icon size={17} />
    </Link>
  )
}

function ExportMenu({ id }: { id: string }) {
  const save = (format: string) =>
    void download(`/api/rollouts/${encodeURIComponent(id)}/export.${format}`, `${id}.${format}`)
  return (
    <Menu
      label="Export"
      trigger={
        <>
          <Download size={15} aria-hidden /> Export
        </>
      }
      items={[
        { id: 'html', label: 'HTML file that shows it all', onSelect: () => save('html') },
        { id: 'jsonl', label: 'JSON lines: its events', onSelect: () => save('jsonl') },
      ]}
    />
  )
}

function Panel({ rollout, tab }: { rollout: Rollout; tab: string }) {
  const id = rollout.summary.rollout_id
  switch (tab) {
    case 'timeline':
      return <TimelinePanel id={id} tree={rollout.tree} />
    case 'tokens':
      return <TokensPanel id={id} />
    case 'branches':
      return <BranchesPanel id={id} />
    case 'calls':
      return <CallsPanel id={id} />
    case 'task':
      return <TaskView request={rollout.request} />
    case 'logs':
      return <Logs logs={rollout.logs} />
    default:
      return (
        <div className="columns">
          <div className="stack">
            {rollout.failure && <Failure failure={rollout.failure} />}
            <Transcript id={id} entries={rollout.transcript} rewards={rollout.score?.turn_rewards ?? {}} />
          </div>
          <Aside rollout={rollout} />
        </div>
      )
  }
}
