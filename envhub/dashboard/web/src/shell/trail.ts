/** The list that a rollout was opened from, so that the next and the previous one are a key away. */

const KEY = 'envhub.trail' // kept for this tab

interface Trail {
  url: string // of the list
  ids: string[]
}

export function keepTrail(url: string, ids: string[]): void {
  sessionStorage.setItem(KEY, JSON.stringify({ url, ids } satisfies Trail))
}

export function trailOf(id: string): { list: string; previous?: string | undefined; next?: string | undefined } {
  const { url, ids }: Trail = JSON.parse(sessionStorage.getItem(KEY) ?? '{"url": "/rollouts", "ids": []}')
  const at = ids.indexOf(id)
  return at < 0 ? { list: '/rollouts' } : { list: url, previous: ids[at - 1], next: ids[at + 1] }
}
