/** How the page asks: JSON with the token it was given, and the stream that says when to ask again. */

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

async function request(path: string, signal: AbortSignal): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN_KEY)
  const headers: HeadersInit = token ? { Authorization: `Bearer ${token}` } : {}
  const response = await fetch(path, { headers, signal }).catch((error: unknown) => {
    if (signal.aborted) throw error
    throw new ApiError(0, 'The server does not answer. Is `envhub` still running?')
  })
  if (response.ok) return response
  const body: unknown = await response.json().catch(() => null)
  const detail = body && typeof body === 'object' && 'detail' in body ? String(body.detail) : response.statusText
  throw new ApiError(response.status, detail || `The server answered ${response.status}.`)
}

export async function getJson<T>(path: string, signal: AbortSignal): Promise<T> {
  const response = await request(path, signal)
  return JSON.parse(await response.text(), exactInteger) as T
}

interface WithRawJson {
  rawJSON?: (text: string) => unknown
}

/** Keeps integers that a browser's numbers can't hold as they were written, so that a call's arguments are shown so. */
function exactInteger(this: unknown, _key: string, value: unknown, context?: { source?: string }): unknown {
  const lossy = Number.isInteger(value) && !Number.isSafeInteger(value)
  const rawJson = (JSON as WithRawJson).rawJSON
  return lossy && rawJson && context?.source ? rawJson(context.source) : value
}

/** Calls `onChange` for every `changed` event until the stream ends. EventSource can't send the token, fetch can. */
export async function followChanges(path: string, onChange: () => void, signal: AbortSignal): Promise<void> {
  const response = await request(path, signal)
  const lines = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (let chunk = await lines.read(); !chunk.done; chunk = await lines.read()) {
    const events = (rest + chunk.value).split('\n\n')
    rest = events.pop() ?? ''
    if (events.some((event) => event.startsWith('event: changed'))) onChange()
  }
}

export function query(parameters: Record<string, string | number | boolean | undefined>): string {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== '' && value !== false)
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
  return text && `?${text}`
}
