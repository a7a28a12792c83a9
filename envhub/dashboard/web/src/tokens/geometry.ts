/** Where tokens lie: lines are of one height and characters of one width, so no element has to be asked. */

import type { Layout, Part } from './layout'

export const LINE_PX = 24 // as .line is high in tokens.css
const TOP_PX = 6 // above the first line

export interface Glyphs {
  perLine: number // characters that fit beside the gutter
  width: number // px, of one
  gutter: number // px, before the first
}

/** The part at a point of the text, of which {0, 0} is the upper left. */
export function partAt({ lines }: Layout, { gutter, width }: Glyphs, x: number, y: number): Part | undefined {
  const column = (x - gutter) / width
  return lines[Math.floor((y - TOP_PX) / LINE_PX)]?.parts.find(({ at, wide }) => at <= column && column < at + wide)
}

/** The lines of which any is in sight, as [first, last]. */
export function linesInSight(scroller: HTMLElement, lines: number): [number, number] {
  const line = (px: number) => Math.max(0, Math.min(lines - 1, Math.floor((px - TOP_PX) / LINE_PX)))
  return [line(scroller.scrollTop), line(scroller.scrollTop + scroller.clientHeight)]
}

/** Scrolls until the line is in sight, by as little as it takes; or to the middle. */
export function scrollToLine(scroller: HTMLElement, line: number, align: 'auto' | 'center'): void {
  const top = TOP_PX + line * LINE_PX
  const room = scroller.clientHeight - LINE_PX
  if (align === 'center') scroller.scrollTop = top - room / 2
  else scroller.scrollTop = Math.max(top - room, Math.min(top, scroller.scrollTop))
}

/** Puts the card below its token, or above it where there is no room; hides it where the token is out of sight. */
export function placeCard(scroller: HTMLElement, card: HTMLElement, line: number, part: Part, glyphs: Glyphs): void {
  const top = TOP_PX + line * LINE_PX - scroller.scrollTop
  card.hidden = top < -LINE_PX || top > scroller.clientHeight
  if (card.hidden) return
  const left = Math.min(glyphs.gutter + part.at * glyphs.width, scroller.clientWidth - card.offsetWidth - 12)
  const below = top + LINE_PX + 4
  const above = top - card.offsetHeight - 4
  const bottom = scroller.getBoundingClientRect().top + below + card.offsetHeight
  card.style.left = `${Math.max(8, left)}px`
  card.style.top = `${bottom + 8 > window.innerHeight && above > 0 ? above : below}px`
}
