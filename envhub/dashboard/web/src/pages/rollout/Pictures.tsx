import { useEffect, useState } from 'react'

import { query } from '../../api/client'
import { request } from '../../api/request'
import type { Image } from '../../api/types'

/** The pictures of a message, each once it is loaded: a plain <img> could not bring the token. */
export function Pictures({ images }: { images: readonly Image[] }) {
  if (images.length === 0) return null
  return (
    <div className="pictures">
      {images.map((image, index) => (
        <Picture key={index} image={image} />
      ))}
    </div>
  )
}

function Picture({ image }: { image: Image }) {
  const { sha256, width, height, media_type } = image
  const [url, setUrl] = useState<string>()
  const [missing, setMissing] = useState('')
  useEffect(() => {
    const abort = new AbortController()
    let made: string | undefined
    request(`/api/images/${sha256}${query({ type: media_type })}`, { signal: abort.signal })
      .then((response) => response.blob())
      .then((blob) => setUrl((made = URL.createObjectURL(blob))))
      .catch((error: unknown) => {
        if (!abort.signal.aborted) setMissing(error instanceof Error ? error.message : String(error))
      })
    return () => {
      abort.abort()
      if (made) URL.revokeObjectURL(made)
    }
  }, [sha256, media_type])
  const size = `${width} × ${height}`
  return (
    <figure>
      {url ? (
        <img src={url} alt={`Picture, ${size}`} width={width} height={height} />
      ) : (
        <span className="picture-place" style={{ aspectRatio: `${width} / ${height}`, width: Math.min(width, 320) }} />
      )}
      <figcaption>{missing || `${media_type.replace('image/', '').toUpperCase()}, ${size}`}</figcaption>
    </figure>
  )
}
