import { useMemo } from 'react'

import { useApi } from '../../../api/queries'
import type { BranchNode, Branches } from '../../../api/types'
import { Link, rolloutUrl, usePlace } from '../../../shell/router'
import { count, plural, versions } from '../../../text/format'
import { oneLine } from '../../../text/visible'
import { Notice, Ready } from '../../../ui/Notice'
import { Graph, LANE_PX, LINE_PX } from './Graph'
import { lanes } from './lanes'

/** The model calls of a rollout as a graph: which goes on from which, why a branch began, and what trains. */
export function BranchesPanel({ id }: { id: string }) {
  const asked = useApi('/api/rollouts/{rollout_id}/branches', { rollout_id: id })
  return (
    <Ready of={asked} what="the branches">
      {(branches) =>
        branches.nodes.length === 0 ? (
          <Notice title="No model call was made, so there are no branches" />
        ) : (
          <View id={id} branches={branches} />
        )
      }
    </Ready>
  )
}

function View({ id, branches: { nodes, rows } }: { id: string; branches: Branches }) {
  const place = usePlace()
  const lane = useMemo(() => lanes(nodes), [nodes])
  const width = (Math.max(...lane) + 1) * LANE_PX + 20
  const trainable = nodes.reduce((sum, node) => sum + node.trainable_tokens, 0)
  return (
    <>
      <p className="graph-head">
        {plural(nodes.length, 'call')} on {plural(rows.length, 'row')}; {count(trainable)} tokens train, each in one
        row.
      </p>
      <div className="graph">
        <div className="graph-lines" role="list" aria-label="Calls, in their order">
          <Graph nodes={nodes} lane={lane} width={width} />
          {nodes.map((node) => (
            <Node
              key={node.turn}
              id={id}
              node={node}
              indent={width}
              current={String(node.turn) === place.get('turn')}
            />
          ))}
        </div>
      </div>
    </>
  )
}

function Node({ id, node, indent, current }: { id: string; node: BranchNode; indent: number; current: boolean }) {
  return (
    <div
      role="listitem"
      className={current ? 'graph-node current' : 'graph-node'}
      style={{ height: LINE_PX, paddingLeft: indent }}
    >
      <Link href={rolloutUrl(id, 'calls', { turn: node.turn })}>turn {node.turn}</Link>
      <span className="said">
        <span>{oneLine(node.said) || <span className="muted">calls tools, says nothing</span>}</span>
        {node.fork && (
          <small className="warn">
            {node.fork.replaceAll('_', ' ')}
            {node.why && `: ${node.why}`}
          </small>
        )}
      </span>
      <span className="size">
        {count(node.sampled_tokens)}{' '}
        <small className="muted">of {count(node.prompt_tokens + node.sampled_tokens)}</small>
        <br />
        <small className="muted">{versions(node.version_min, node.version_max)}</small>
      </span>
      <span className="trains">
        {node.trains_in === null ? (
          <span className="muted">does not train</span>
        ) : (
          <Link className="link" href={rolloutUrl(id, 'tokens', { row: node.trains_in, turn: node.turn })}>
            trains in row {node.trains_in}
          </Link>
        )}
      </span>
    </div>
  )
}
