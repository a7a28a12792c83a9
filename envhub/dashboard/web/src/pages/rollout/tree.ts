/** The order in which a tree is drawn. */

import type { TreeNode } from '../../api/types'

/** Each rollout followed by all below it. One whose parent is not among them begins at the edge. */
export function byDepth(nodes: TreeNode[]): TreeNode[] {
  const known = new Set(nodes.map((node) => node.rollout.rollout_id))
  const below = Map.groupBy(nodes, ({ rollout: { parent } }) => (parent !== null && known.has(parent) ? parent : ''))
  const visit = (parent: string): TreeNode[] =>
    (below.get(parent) ?? []).flatMap((node) => [node, ...visit(node.rollout.rollout_id)])
  return visit('')
}

/** Below the root the last part of an id is enough: the lines above have the others. */
export const shortId = ({ rollout, depth }: TreeNode): string =>
  depth === 0 ? rollout.rollout_id : `.${rollout.rollout_id.split('.').at(-1)}`
