import type { MouseEvent } from 'react'

import { count, versions } from '../format'
import { useNow } from '../hooks'
import { Link, navigate, rolloutUrl } from '../router'
import type { RolloutSummary } from '../types'
import { Duration, Moment, Reward, StatusChip } from './Facts'

export function RolloutTable({ rollouts }: { rollouts: RolloutSummary[] }) {
  const now = useNow(rollouts.some((one) => one.ended_at === null))
  return (
    <div className="scroll-x">
      <table className="rollouts">
        <caption className="hidden">Rollouts, newest first</caption>
        <thead>
          <tr>
            <th scope="col">Rollout</th>
            <th scope="col">Environment</th>
            <th scope="col">Task</th>
            <th scope="col">Status</th>
            <th scope="col" className="number">
              Reward
            </th>
            <th scope="col" className="number">
              Turns
            </th>
            <th scope="col" className="number" title="prompt + sampled">
              Tokens
            </th>
            <th scope="col">Versions</th>
            <th scope="col">Started</th>
            <th scope="col" className="number">
              Duration
            </th>
          </tr>
        </thead>
        <tbody>
          {rollouts.map((one) => (
            <Line key={one.rollout_id} of={one} now={now} />
          ))}
        </tbody>
      </table>
    </div>
  )
}

function Line({ of, now }: { of: RolloutSummary; now: number }) {
  const url = rolloutUrl(of.rollout_id)
  const open = (event: MouseEvent) => {
    const selects = getSelection()?.isCollapsed === false
    if (!selects && !(event.target instanceof HTMLAnchorElement)) navigate(url)
  }
  return (
    // The whole line is a larger target for the mouse; the link in it is what the keyboard and a screen reader find.
    <tr onClick={open}>
      <th scope="row">
        <Link href={url}>{of.rollout_id}</Link>
        {of.parent && <small className="tag">child</small>}
        {of.attempt > 0 && <small className="tag">try {of.attempt + 1}</small>}
      </th>
      <td>{of.environment}</td>
      <td className="task" title={of.task_id}>
        {of.task_id}
      </td>
      <td>
        <StatusChip of={of} />
      </td>
      <td className="number">
        <Reward value={of.reward} />
      </td>
      <td className="number">{count(of.turns)}</td>
      <td className="number" title={`${count(of.prompt_tokens)} prompt + ${count(of.sampled_tokens)} sampled`}>
        {count(of.prompt_tokens + of.sampled_tokens)}
      </td>
      <td>{versions(of.version_min, of.version_max)}</td>
      <td>
        <Moment at={of.started_at} />
      </td>
      <td className="number">
        <Duration of={of} now={now} />
      </td>
    </tr>
  )
}
