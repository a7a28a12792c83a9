import { useLayoutEffect, useState, type RefObject } from 'react'

import type { Glyphs } from './geometry'

/** How wide a character is and how many fit beside the gutter, kept up to date with the view's width and the font. */
export function useGlyphs(scroller: RefObject<HTMLDivElement | null>): Glyphs {
  const [glyphs, setGlyphs] = useState<Glyphs>({ perLine: 80, width: 8, gutter: 0 })
  useLayoutEffect(() => {
    const element = scroller.current!
    const measure = () => {
      const gutter = Number.parseFloat(getComputedStyle(element).getPropertyValue('--gutter'))
      const width = characterWidth(element)
      const perLine = Math.max(20, Math.floor((element.clientWidth - gutter) / width) - 3)
      setGlyphs((known) =>
        known.perLine === perLine && known.width === width && known.gutter === gutter
          ? known
          : { perLine, width, gutter },
      )
    }
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    document.fonts.addEventListener('loadingdone', measure)
    return () => {
      observer.disconnect()
      document.fonts.removeEventListener('loadingdone', measure)
    }
  }, [scroller])
  return glyphs
}

function characterWidth(within: HTMLElement): number {
  const ruler = document.createElement('span')
  ruler.className = 'ruler'
  ruler.textContent = '0'.repeat(100)
  within.append(ruler)
  const width = ruler.getBoundingClientRect().width / 100
  ruler.remove()
  return width
}
