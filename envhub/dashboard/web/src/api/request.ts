/** How the page asks: with the token it was given, and answers that say plainly what went wrong. */

const TOKEN_KEY = 'envhub.token' // kept for this tab only

export class ApiError extends Error {
  readonly status: number

  constructor(status: number, detail: string) {
    super(detail)
    this.status = status
  }
}

export function keepToken(token: string): void {
  sessionStorage.setItem(TOKEN_KEY, token)
}

export async function request(path: string, init: RequestInit): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN_KEY)
  const headers = new Headers(init.headers)
  if (token) headers.set('Authorization', `Bearer ${token}`)
  const response = await fetch(path, { ...init, headers }).catch((error: unknown) => {
    if (init.signal?.aborted) throw error
    throw new ApiError(0, 'The server does not answer. Is `envhub` still running?')
  })
  if (response.ok) return response
  const body: unknown = await response.json().catch(() => null)
  const detail = body && typeof body === 'object' && 'detail' in body ? String(body.detail) : response.statusText
  throw new ApiError(response.status, detail || `The server answered ${response.status}.`)
}

interface WithRawJson {
  rawJSON?: (text: string) => unknown
}

/** Keeps integers that a browser's numbers can't hold as they were written, so that a call's arguments are shown so. */
export function exactInteger(this: unknown, _key: string, value: unknown, context?: { source?: string }): unknown {
  const lossy = Number.isInteger(value) && !Number.isSafeInteger(value)
  const rawJson = (JSON as WithRawJson).rawJSON
  return lossy && rawJson && context?.source ? rawJson(context.source) : value
}

/** Saves what the API answers to `path` as a file; a plain link could not bring the token. */
export async function download(path: string, name: string): Promise<void> {
  const response = await request(path, {})
  const url = URL.createObjectURL(await response.blob())
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  URL.revokeObjectURL(url)
}
