"""Multilogue-Net (Shenoy and Sardana 2020, https://arxiv.org/abs/2002.08267): system.py first."""
