/** The API by its own paths, parameters and answers: typed by schema.d.ts, which is made from its OpenAPI. */

import type { paths } from './schema'
import { exactInteger, request } from './request'

type Methods = 'get' | 'post'
type Operation<P extends keyof paths, M extends Methods> = paths[P] extends Record<M, infer O> ? O : never
type PathsWith<M extends Methods> = {
  [P in keyof paths]: paths[P] extends Record<M, { responses: unknown }> ? P : never
}[keyof paths]

export type GetPath = PathsWith<'get'>
export type PostPath = PathsWith<'post'>
export type Parameters<P extends keyof paths, M extends Methods = 'get'> = Flat<Operation<P, M>>
export type Answer<P extends keyof paths, M extends Methods = 'get'> =
  Operation<P, M> extends { responses: { 200: { content: { 'application/json': infer A } } } } ? A : never
export type Body<P extends PostPath> =
  Operation<P, 'post'> extends { requestBody: { content: { 'application/json': infer B } } } ? Partial<B> : undefined

/** Parameters of the path and of the query in one record: their names don't meet. */
type Flat<O> = O extends { parameters: infer P } ? Of<P, 'path'> & Of<P, 'query'> : never
type Of<P, K extends string> = P extends { [key in K]?: infer V }
  ? NonNullable<V> extends never
    ? unknown
    : NonNullable<V>
  : unknown

type Values = Record<string, unknown>

export async function get<P extends GetPath>(path: P, values: Parameters<P>, signal: AbortSignal): Promise<Answer<P>> {
  const response = await request(url(path, values as Values), { signal })
  return JSON.parse(await response.text(), exactInteger) as Answer<P>
}

/** `get` for answers that hold no integers beyond a browser's numbers, and much else: parsed in half the time. */
export async function getPlain<P extends GetPath>(
  path: P,
  values: Parameters<P>,
  signal: AbortSignal,
): Promise<Answer<P>> {
  const response = await request(url(path, values as Values), { signal })
  return (await response.json()) as Answer<P>
}

export async function post<P extends PostPath>(
  path: P,
  values: Parameters<P, 'post'>,
  body: Body<P>,
): Promise<Answer<P, 'post'>> {
  const response = await request(url(path, values as Values), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body ?? {}),
  })
  return JSON.parse(await response.text(), exactInteger) as Answer<P, 'post'>
}

/** The path with its own parameters filled in, and the others as its query; what is unset is left out. */
export function url(path: string, values: Values): string {
  const rest = { ...values }
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = encodeURIComponent(String(rest[name]))
    delete rest[name]
    return value
  })
  return filled + query(rest)
}

export function query(values: Values): string {
  const given = Object.entries(values)
    .flatMap(([name, value]) =>
      Array.isArray(value) ? value.map((one: unknown) => [name, one] as const) : [[name, value] as const],
    )
    .filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false)
  const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
  return text && `?${text}`
}
