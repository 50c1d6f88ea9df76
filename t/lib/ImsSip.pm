package ImsSip;

# SIP messages for tests: a REGISTER as JsSIP writes it, answers as a core
# writes them, and a reader that is only as strict as a test needs.
#
#   my $ua = ImsSip->new(aor => 'sip:web-000001@ims.example',
#                        domain => 'ims.example', token => $jwt);
#   my $text = $ua->register(expires => 300);
#   my $m = sip_parse($text);      sip_header($m, 'Contact')

use strict;
use warnings;

use Exporter qw/ import /;

our @EXPORT = qw/ sip_parse sip_header sip_headers sip_reply sip_frame /;

my $count = 0;


# one user agent: what stays the same over its requests

sub new {
    my ($class, %o) = @_;

    my $tag = _random(12);

    my $self = bless {
        cseq => 0, transport => 'WS', user => _random(8),
        host => "$tag.invalid", call_id => _random(22),
        instance => sprintf('urn:uuid:%s-%s-4%s-8%s-%s', _hex(8), _hex(4),
                            _hex(3), _hex(3), _hex(12)),
        %o,
    }, $class;

    ($self->{domain}) = $self->{aor} =~ /@([^;>]+)/
        if defined $self->{aor} && !defined $self->{domain};

    return $self;
}


sub contact {
    my ($self) = @_;

    return "sip:$self->{user}\@$self->{host};transport=ws";
}


# Options replace what the object has: aor, token, expires, contact (the
# whole header), authorization (the whole header's value; '' for none),
# cseq, call_id, instance ('' for none), extra (lines), ruri, from, to.

sub register {
    my ($self, %over) = @_;

    my %o = (%$self, %over);
    my $expires = $o{expires} // 600;
    my $cseq = $over{cseq} // ++$self->{cseq};

    my $contact = $o{contact}
        // '<' . $self->contact() . '>;+sip.ice'
           . ($o{instance} ? ";reg-id=1;+sip.instance=\"<$o{instance}>\"" : '')
           . ";expires=$expires";

    my $authorization = $o{authorization}
        // (defined $o{token} ? "Bearer $o{token}" : '');

    my @lines = (
        'REGISTER ' . ($o{ruri} // "sip:$o{domain}") . ' SIP/2.0',
        "Via: SIP/2.0/$o{transport} $o{host};branch="
            . ($o{branch} // _branch()),
        'Max-Forwards: ' . ($o{max_forwards} // 69),
        'To: <' . ($o{to} // $o{aor}) . '>',
        'From: <' . ($o{from} // $o{aor}) . '>;tag=' . _random(10),
        "Call-ID: $o{call_id}",
        "CSeq: $cseq REGISTER",
        ($authorization ne '' ? "Authorization: $authorization" : ()),
        @{$o{extra} // []},
        (defined $o{expires} && $o{expires} eq '' ? () : "Expires: $expires"),
        "Contact: $contact",
        'Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,'
            . 'NOTIFY,SUBSCRIBE',
        'Supported: path,gruu,outbound',
        'User-Agent: JsSIP 3.13.8',
        'Content-Length: 0',
    );

    return join("\r\n", @lines, '', '');
}


# any other request; %o: method, ruri, to, body, type, extra

sub request {
    my ($self, $method, %over) = @_;

    my %o = (%$self, %over);
    my $body = $o{body} // '';
    my $cseq = $over{cseq} // ++$self->{cseq};

    my @lines = (
        "$method " . ($o{ruri} // $o{to} // $o{aor}) . ' SIP/2.0',
        "Via: SIP/2.0/$o{transport} $o{host};branch="
            . ($o{branch} // _branch()),
        'Max-Forwards: ' . ($o{max_forwards} // 69),
        'To: <' . ($o{to} // $o{aor}) . '>'
            . (defined $o{to_tag} ? ";tag=$o{to_tag}" : ''),
        'From: <' . ($o{from} // $o{aor}) . '>;tag='
            . ($o{from_tag} // _random(10)),
        "Call-ID: $o{call_id}",
        "CSeq: $cseq $method",
        @{$o{extra} // []},
        (length $body ? 'Content-Type: ' . ($o{type} // 'text/plain') : ()),
        'Content-Length: ' . length $body,
    );

    return join("\r\n", @lines, '', $body);
}


# { start, method | status, reason, lines => [[name, value], ...], body };
# undef if it has no end of headers

sub sip_parse {
    my ($text) = @_;

    return undef unless defined $text && $text =~ /^(.*?)\r\n\r\n(.*)\z/s;

    my ($start, @lines) = split /\r\n/, $1;
    my %m = (start => $start, body => $2, text => $text, lines => []);

    if ($start =~ m{^SIP/2\.0 (\d{3}) (.*)}) {
        @m{qw/ status reason /} = ($1, $2);

    } elsif ($start =~ m{^(\S+) (\S+) SIP/2\.0$}) {
        @m{qw/ method ruri /} = ($1, $2);
    }

    for my $line (@lines) {
        my ($name, $value) = $line =~ /^([^\s:]+)\s*:\s*(.*?)\s*$/ or next;
        push @{$m{lines}}, [$name, $value];
    }

    return \%m;
}


# the values of a header, in order; compact forms are not looked at

sub sip_headers {
    my ($m, $name) = @_;

    return () unless $m;

    return map { $_->[1] } grep { lc $_->[0] eq lc $name } @{$m->{lines}};
}


sub sip_header {
    my ($m, $name) = @_;

    my @all = sip_headers($m, $name);

    return $all[0];
}


# An answer to a request, as a registrar gives it. Lines of `extra` follow
# the copied ones; Contact is repeated from the request unless contact => ''.

sub sip_reply {
    my ($m, $status, $reason, %o) = @_;

    my $to = sip_header($m, 'To');
    $to .= ';tag=' . ($o{to_tag} // _random(8)) unless $to =~ /;tag=/;

    my $contact = $o{contact} // ($status =~ /^2/
        && $m->{method} eq 'REGISTER' ? sip_header($m, 'Contact') : '');

    my @lines = (
        "SIP/2.0 $status $reason",
        (map { "Via: $_" } sip_headers($m, 'Via')),
        'From: ' . sip_header($m, 'From'),
        "To: $to",
        (map { "$_: " . sip_header($m, $_) } qw/ Call-ID CSeq /),
        ($contact ne '' ? "Contact: $contact" : ()),
        @{$o{extra} // []},
        'Content-Length: ' . length($o{body} // ''),
    );

    return join("\r\n", @lines, '', $o{body} // '');
}


# the first whole message of a stream is cut off its front; undef if there
# is none yet

sub sip_frame {
    my ($stream) = @_;

    $$stream =~ s/^(?:\r\n)+//;
    $$stream =~ /\r\n\r\n/g or return undef;

    my $head = pos $$stream;
    my ($length) =
        substr($$stream, 0, $head) =~ /\r\n(?:content-length|l)\s*:\s*(\d+)/i;

    $length //= 0;

    return undef if length $$stream < $head + $length;

    return substr($$stream, 0, $head + $length, '');
}


sub _branch {
    return 'z9hG4bK' . sprintf('%05d%s', ++$count, _random(6));
}


sub _random {
    my ($n) = @_;

    my @set = ('a' .. 'z', 0 .. 9);

    return join '', map { $set[rand @set] } 1 .. $n;
}


sub _hex {
    my ($n) = @_;

    return join '', map { sprintf '%x', rand 16 } 1 .. $n;
}


1;
