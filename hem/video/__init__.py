"""Videos: finding them, decoding them, streaming their frames, writing them.

Take names from the modules: ``manifest`` (scan_videos, frames_as_video, probe), ``source``
(open_source), ``stream`` (VideoStream, reread_frames, shard_videos), ``writer`` (write_video). This
file imports nothing on purpose: the guarded worker process must start without torch.
"""
