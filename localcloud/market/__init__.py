"""The EC2 market: an emulated EC2 with capacity, prices, interruptions and faults for each offering.

``model`` is the market itself, ``api`` carries out AWS's actions on it, and ``faces`` offers them: as a boto3 client in
the same process, and as EC2 over HTTP with a control interface. docs/market.md describes them.
"""
