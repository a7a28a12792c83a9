import { useMemo } from 'react'

import { useApi } from '../../../api/queries'
import type { Timeline, TreeNode } from '../../../api/types'
import { Parts } from '../../../charts/Bars'
import { usePlace } from '../../../shell/router'
import { duration } from '../../../text/format'
import { Ready } from '../../../ui/Notice'
import { byDepth } from '../tree'
import { Gantt } from './Gantt'
import { spent } from './kinds'

/** Where the time of a rollout and of all in its tree went. */
export function TimelinePanel({ id, tree }: { id: string; tree: TreeNode[] }) {
  const asked = useApi('/api/rollouts/{rollout_id}/timeline', { rollout_id: id })
  return (
    <Ready of={asked} what="the timeline">
      {(timeline) => <View id={id} tree={tree} timeline={timeline} />}
    </Ready>
  )
}

function View({ id, tree, timeline }: { id: string; tree: TreeNode[]; timeline: Timeline }) {
  const place = usePlace()
  const criticalOnly = place.get('critical') === 'true'
  const lines = useMemo(() => {
    const lanes = new Map(timeline.lanes.map((lane) => [lane.rollout_id, lane]))
    return byDepth(tree).flatMap((node) => {
      const lane = lanes.get(node.rollout.rollout_id)
      return lane && (node.critical || !criticalOnly) ? [{ node, lane }] : []
    })
  }, [tree, timeline, criticalOnly])
  return (
    <>
      <div className="timeline-head">
        <Parts label="Seconds by what they went to" items={spent(timeline.lanes)} text={duration} />
        {tree.length > 1 && (
          <label className="check">
            <input
              type="checkbox"
              checked={criticalOnly}
              onChange={(event) => place.set({ critical: event.target.checked ? 'true' : '' })}
            />
            Critical path only
          </label>
        )}
      </div>
      <Gantt seconds={timeline.seconds} lines={lines} current={id} />
      <p className="hint">
        Drag over the bars to zoom in, double-click to see all again. <kbd>+</kbd> <kbd>-</kbd> zoom, <kbd>h</kbd>{' '}
        <kbd>l</kbd> move. Underlined bars are the critical path: what decided how long it all took.
      </p>
    </>
  )
}
