import { useVirtualizer } from '@tanstack/react-virtual'
import { useMemo, useRef } from 'react'

import type { TreeNode } from '../../api/types'
import { Link, rolloutUrl } from '../../shell/router'
import { count } from '../../text/format'
import { Reward } from '../../ui/Facts'
import { byDepth, shortId } from './tree'

const LINE_PX = 26

/** The rollouts of a tree, children below and right of their parents. */
export function Tree({ nodes, size, current }: { nodes: TreeNode[]; size: number; current: string }) {
  const scroller = useRef<HTMLDivElement>(null)
  const lines = useMemo(() => byDepth(nodes), [nodes])
  const virtualizer = useVirtualizer({
    count: lines.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_PX,
    overscan: 8,
    initialOffset: Math.max(0, lines.findIndex(({ rollout }) => rollout.rollout_id === current) - 4) * LINE_PX,
  })
  return (
    <>
      <div ref={scroller} className="tree" role="list" aria-label="Rollouts of the tree" tabIndex={0}>
        <div role="presentation" style={{ height: virtualizer.getTotalSize(), position: 'relative' }}>
          {virtualizer.getVirtualItems().map((item) => {
            const node = lines[item.index]!
            const { rollout, depth, critical } = node
            return (
              <div
                key={item.key}
                role="listitem"
                className="tree-line"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <Link
                  href={rolloutUrl(rollout.rollout_id)}
                  aria-current={rollout.rollout_id === current ? 'true' : undefined}
                  style={{ paddingLeft: 8 + depth * 14 }}
                >
                  <i className={`status-dot ${rollout.status ?? 'running'}`} title={rollout.status ?? 'running'} />
                  <code>{shortId(node)}</code>
                  {critical && (
                    <small className="critical" title="on the critical path">
                      critical
                    </small>
                  )}
                  <Reward value={rollout.reward} />
                </Link>
              </div>
            )
          })}
        </div>
      </div>
      {size > nodes.length && (
        <p className="muted">
          The first {count(nodes.length)} of {count(size)}.
        </p>
      )}
    </>
  )
}
