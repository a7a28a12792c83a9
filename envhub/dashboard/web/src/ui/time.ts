import { useEffect, useState } from 'react'

/** The time, to the second, while something on the page runs. */
export function useNow(running: boolean): number {
  const [now, setNow] = useState(() => Date.now() / 1000)
  useEffect(() => {
    if (!running) return
    const timer = window.setInterval(() => setNow(Date.now() / 1000), 1000)
    return () => window.clearInterval(timer)
  }, [running])
  return now
}
